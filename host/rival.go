package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/serfwatch"
)

// Two nodes with one id. A node that was killed and is started again finds itself in the gossip, where it counts as alive for some
// seconds yet; the newer run has the greater boot number, and is the one that counts. A mistake in a configuration looks the
// same. What tells them apart is whether the other run still answers on its link and proves the id there: if it does, the
// newcomer goes, and says why. If it does not, the newcomer stays; and should the other only have been asleep, it finds the
// newer run when it wakes, asks it likewise, and ends itself.

// errSuperseded ends a node that a newer run of itself has replaced.
var errSuperseded = errors.New("a newer run of this node has taken its place")

// refuseRival returns an error if another run of this node lives.
func (n *network) refuseRival(ctx context.Context) error {
	for _, p := range n.rivals() {
		boot, err := n.probe(ctx, p)
		if err != nil {
			n.log.Info("an earlier run of this node is in the gossip, and does not answer", "link", p.Authority, "gossip", p.Gossip, "err", err)
			continue
		}
		if boot != n.self.Boot {
			return abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("the node id %q is in use: a node of this id runs at %s (gossip %s); "+
				"give this one another id with --id, or stop that one first", n.self.ID, p.Authority, p.Gossip))
		}
	}
	return nil
}

// rivals are the other runs of this node that gossip takes for present and that say where their link is.
func (n *network) rivals() (list []serfwatch.Peer) {
	for _, p := range n.watch.Peers() {
		present := p.Status == serfwatch.Alive || p.Status == serfwatch.Leaving
		if p.ID == n.self.ID && p.Boot != n.self.Boot && present && p.Authority != "" && p.Authority != n.self.Authority {
			list = append(list, p)
		}
	}
	return list
}

// probe asks a run of this node, at its link, for its boot number: proof that it lives.
func (n *network) probe(ctx context.Context, p serfwatch.Peer) (boot uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime+n.patient)
	defer cancel()
	peer, err := n.link.Probe(ctx, p.Authority, n.self.ID)
	return peer.Boot, err
}

// guard ends the node when gossip has stopped, or a newer run of it has proven twice that it lives: a newcomer that finds this
// one alive goes at once, and is not there for the second time.
func (n *network) guard() {
	select {
	case <-n.ctx.Done():
		return
	case <-n.watch.Failed():
		n.fail(n.watch.Err())
		return
	case <-n.watch.Superseded():
	}
	look := time.NewTicker(rivalLook)
	defer look.Stop()
	var since time.Time // of the first proof in a row
	disputed := true
	for {
		if rivals := n.rivals(); disputed != (len(rivals) > 0) {
			if disputed = !disputed; !disputed {
				n.log.Info("the other run of this node is gone; this one goes on", "node", n.self.ID)
			}
		}
		switch p, ok := n.newerRun(); {
		case !ok:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= confirmTime:
			n.fail(fmt.Errorf("%w: it runs at %s", errSuperseded, p.Authority))
			return
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.watch.Failed():
			n.fail(n.watch.Err())
			return
		case <-look.C:
		}
	}
}

// newerRun returns a run of this node that proves to be newer.
func (n *network) newerRun() (serfwatch.Peer, bool) {
	for _, p := range n.rivals() {
		if p.Boot < n.self.Boot {
			continue
		}
		if boot, err := n.probe(n.ctx, p); err == nil && boot > n.self.Boot {
			return p, true
		}
	}
	return serfwatch.Peer{}, false
}

// ask sends a question to a service of another node.
func (n *network) ask(ctx context.Context, node cluster.Node, service string, payload []byte) ([]byte, error) {
	return n.link.Ask(ctx, node, service, payload)
}
