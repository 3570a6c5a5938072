package link

import (
	"context"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// Service answers what other nodes ask by [Link.Ask]. It is called on a goroutine of its own, so it may block, and several times at
// once. from is the node that asks, as its certificate proves. The payload may be kept. ctx ends with the asker's patience or
// the connection; the service must return soon then, for [Link.Shutdown] waits for it. An error is answered as abi.AsError has it.
type Service func(ctx context.Context, from cluster.NodeID, payload []byte) ([]byte, error)

// Ask puts a question to a service of another node's link, which is no message to an actor, and waits for the answer until ctx
// ends; without a deadline, for abi.DefaultRequest. Questions share connection, bounds and errors with messages (see the package's
// comment), but come in no order. The error is that of the service, an [*abi.Error], or an [*Error]; a service that the other node
// does not have is `unsupported`, one that has too much to do `overloaded`.
func (l *Link) Ask(ctx context.Context, node cluster.Node, service string, payload []byte) ([]byte, error) {
	p, err := l.peer(node)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, p.error(abi.CodeOf(err), "the caller stopped waiting before the question was sent", err)
	}
	if !abi.ValidMethod(service) {
		return nil, p.error(abi.ErrInvalidArgument, fmt.Sprintf("%.200q is no name of a service", service), nil)
	}
	k := l.getCall()
	k.ask, k.request = &question{service, payload}, true
	deadline, _ := ctx.Deadline()
	c, err := p.dispatch(k, deadline, true)
	if err != nil {
		return nil, err
	}
	return p.wait(ctx, c, k)
}

// question is what [Link.Ask] sends.
type question struct {
	service string
	payload []byte
}

func (q *question) append(b []byte, id uint64, left time.Duration) []byte {
	at := len(b)
	b = abi.AppendUint(openFrame(b, 5, frameAsk), id)
	b = abi.AppendUint(b, uint64(max(1, left.Milliseconds())))
	b = abi.AppendText(b, q.service)
	return sealFrame(abi.AppendBytes(b, q.payload), at)
}

// maxAsked bounds the questions of one connection that are being answered, each of which has a goroutine.
const maxAsked = 64

// question has a service answer.
func (c *inbound) question(items int, r *abi.Reader) error {
	t := &taken{c: c, id: r.Uint()}
	left := time.Duration(min(r.Uint(), uint64(abi.MaxDuration/time.Millisecond))) * time.Millisecond
	name, payload := r.Text(), r.Bytes()
	if items != 4 {
		r.Fail("a question has four items")
	}
	if r.End(); r.Err() != nil {
		return r.Err()
	}
	if err := t.begin(len(payload)); err != nil {
		t.done(nil, err)
		return nil
	}
	c.answer(t, name, payload, left)
	return nil
}

// answer has the service answer, within the time that is left. The payload is copied.
func (c *inbound) answer(t *taken, name string, payload []byte, left time.Duration) {
	l := c.link
	service := l.cfg.Services[name]
	var err error
	switch {
	case service == nil:
		err = abi.NewError(abi.ErrUnsupported, fmt.Sprintf("node %s has no service %.200q", l.cfg.Self.ID, name))
	case len(payload) > l.cfg.MaxMessage:
		err = tooLarge(len(payload), l.cfg.MaxMessage)
	}
	if err != nil {
		t.done(nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, left)
	if !c.asking(t.id, cancel) {
		cancel()
		t.done(nil, abi.NewError(abi.ErrOverloaded, fmt.Sprintf("node %s answers %d questions of node %s already",
			l.cfg.Self.ID, maxAsked, c.from)))
		return
	}
	payload = append(make([]byte, 0, len(payload)), payload...)
	answered := false
	done := func(reply []byte, err error) {
		if answered {
			return
		}
		answered = true
		c.asked(t.id, cancel) // first: whoever has the answer may ask again
		t.done(reply, err)
	}
	l.spawn(func() {
		defer c.guard("the service "+name, done)
		done(service(ctx, c.from, payload))
	})
}

// asking notes that a question is being answered, if there is room for it, and how to end that.
func (c *inbound) asking(id uint64, cancel context.CancelFunc) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.questions >= maxAsked {
		return false
	}
	if c.cancels == nil {
		c.cancels = make(map[uint64]context.CancelFunc)
	}
	c.questions++
	c.cancels[id] = cancel
	return true
}

// asked ends what asking began.
func (c *inbound) asked(id uint64, cancel context.CancelFunc) {
	cancel()
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.questions--
	delete(c.cancels, id)
}
