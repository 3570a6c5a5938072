package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link"
)

// describeService is what nodes ask each other for: the kind's name as CBOR text, answered by a description of that one kind.
const describeService = "describe"

// describe answers other nodes that ask what a kind of this node looks like.
func (n *Node) describe(_ context.Context, _ cluster.NodeID, payload []byte) ([]byte, error) {
	r := abi.NewReader(payload)
	name := r.Text()
	if r.End(); r.Err() != nil {
		return nil, r.Err()
	}
	k, err := n.find(name)
	if err != nil {
		return nil, err
	}
	return abi.AppendDescription(nil, &abi.Description{Kinds: []abi.KindDescription{*k.Desc}}), nil
}

var _ link.Service = (*Node)(nil).describe

// atlas knows what kinds of other nodes look like: their methods and schemas. A gateway needs that to make CBOR of JSON, whoever
// hosts the actor. What it knows is used at once and asked anew in the background when it is older than [atlasFresh].
type atlas struct {
	log *slog.Logger
	ask func(ctx context.Context, node cluster.Node, service string, payload []byte) ([]byte, error)

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	asking chan struct{} // a token for each question under way: a node answers only so many at a time

	mu     sync.Mutex
	closed bool
	kinds  map[string]*chart
}

// chart is a kind as another node described it.
type chart struct {
	ready chan struct{} // closed when desc or err is set
	desc  *abi.KindDescription
	err   error
	at    time.Time // when it was asked for
	next  *chart    // asked for since; guarded by atlas.mu
}

const (
	atlasFresh  = 2 * time.Second // and no more asking than that
	atlasTime   = time.Second     // of a question to one node
	atlasAsking = 16              // questions at a time
	atlasKinds  = 1 << 16         // no cluster has more; what is not used any more goes first come, first served
)

func newAtlas(log *slog.Logger, ask func(context.Context, cluster.Node, string, []byte) ([]byte, error)) *atlas {
	a := &atlas{log: log, ask: ask, kinds: make(map[string]*chart), asking: make(chan struct{}, atlasAsking)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// find describes a kind that the nodes given host. now: an older answer will not do, unless it is younger than [atlasFresh]. The error
// is ctx's if that ends first.
func (a *atlas) find(ctx context.Context, kind string, hosts []cluster.Node, now bool) (*abi.KindDescription, error) {
	return a.begin(kind, hosts, now).wait(ctx)
}

// begin looks a kind up, and asks for it if need be; see find.
func (a *atlas) begin(kind string, hosts []cluster.Node, now bool) *chart {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.kinds[kind]
	switch {
	case c == nil:
		c = a.askLocked(kind, hosts)
		a.kinds[kind] = c
	case time.Since(c.at) > atlasFresh && c.next == nil:
		c.next = a.askLocked(kind, hosts)
	}
	if now && c.next != nil {
		return c.next
	}
	return c
}

// answered reports whether the answer is there.
func (c *chart) answered() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// wait returns the answer, or ctx's error if that ends first.
func (c *chart) wait(ctx context.Context) (*abi.KindDescription, error) {
	if c.answered() {
		return c.desc, c.err
	}
	select {
	case <-c.ready:
		return c.desc, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// askLocked puts the question, on a goroutine. a.mu is held.
func (a *atlas) askLocked(kind string, hosts []cluster.Node) *chart {
	c := &chart{ready: make(chan struct{}), at: time.Now()}
	if a.closed {
		c.err = errLeaving
		close(c.ready)
		return c
	}
	a.work.Go(func() {
		a.asking <- struct{}{}
		c.desc, c.err = a.question(kind, hosts)
		<-a.asking
		a.mu.Lock()
		old := a.kinds[kind]
		switch {
		case c.err == nil && old != c: // it replaces what was known
			a.kinds[kind] = c
		case c.err != nil && old == c: // nothing was known: the next one asks again
			delete(a.kinds, kind)
		case c.err != nil && old != nil && old.next == c: // what was known stays for a while
			old.next, old.at = nil, c.at
		}
		if len(a.kinds) > atlasKinds {
			clear(a.kinds)
		}
		a.mu.Unlock()
		close(c.ready)
	})
	return c
}

// question asks one host after the other until one has answered.
func (a *atlas) question(kind string, hosts []cluster.Node) (desc *abi.KindDescription, err error) {
	for _, host := range hosts {
		if desc, err = a.askOne(kind, host); err == nil || a.ctx.Err() != nil {
			break
		}
	}
	return desc, err
}

func (a *atlas) askOne(kind string, host cluster.Node) (*abi.KindDescription, error) {
	ctx, cancel := context.WithTimeout(a.ctx, atlasTime)
	defer cancel()
	b, err := a.ask(ctx, host, describeService, abi.AppendText(nil, kind))
	if err == nil {
		var d *abi.Description
		if d, err = abi.DecodeDescription(b); err == nil && (len(d.Kinds) != 1 || d.Kinds[0].Name != kind) {
			err = fmt.Errorf("node %s was asked for the kind %s and described something else", host.ID, kind)
		}
		if err == nil {
			return &d.Kinds[0], nil
		}
	}
	a.log.Debug("a kind could not be described", "kind", kind, "node", host.ID, "err", err)
	return nil, err
}

func (a *atlas) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.work.Wait()
}
