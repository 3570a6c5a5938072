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
// hosts the actor. What it knows is used for [atlasFresh]: a module may be replaced, and with it what a method takes and whether it
// changes anything.
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
	atlasFresh  = 2 * time.Second
	atlasRetry  = 100 * time.Millisecond // for a method that is not known
	atlasTime   = time.Second            // of a question to one node
	atlasAsking = 16                     // questions at a time
	atlasKinds  = 1 << 16                // no cluster has more; what is not used any more goes first come, first served
)

func newAtlas(log *slog.Logger, ask func(context.Context, cluster.Node, string, []byte) ([]byte, error)) *atlas {
	a := &atlas{log: log, ask: ask, kinds: make(map[string]*chart), asking: make(chan struct{}, atlasAsking)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// begin looks a kind up that the nodes given host, and asks for it if what is known is older than age.
func (a *atlas) begin(kind string, hosts []cluster.Node, age time.Duration) lookup {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.kinds[kind]
	if c == nil {
		c = a.askLocked(kind, hosts)
		a.kinds[kind] = c
	}
	if c.next == nil && time.Since(c.at) > age {
		c.next = a.askLocked(kind, hosts)
	}
	if c.next != nil {
		return lookup{c.next, c}
	}
	return lookup{c, c}
}

// lookup is what is to be known of a kind, and what is known of it if that does not come.
type lookup struct{ best, known *chart }

// answered reports whether the best answer is there.
func (l lookup) answered() bool { return l.best.answered() }

// wait returns the best answer, or what was known before if it is an error, or ctx's error if that ends first.
func (l lookup) wait(ctx context.Context) (*abi.KindDescription, error) {
	if !l.best.answered() {
		select {
		case <-l.best.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if l.best.err != nil && l.known.answered() && l.known.desc != nil {
		return l.known.desc, nil
	}
	return l.best.desc, l.best.err
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

// askLocked puts the question, on a goroutine. a.mu is held.
func (a *atlas) askLocked(kind string, hosts []cluster.Node) *chart {
	c := &chart{ready: make(chan struct{}), at: time.Now()}
	if a.closed {
		c.err = errLeaving
		close(c.ready)
		return c
	}
	a.work.Go(func() {
		select {
		case a.asking <- struct{}{}:
			c.desc, c.err = a.question(kind, hosts)
			<-a.asking
		case <-a.ctx.Done():
			c.err = errLeaving
		}
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
