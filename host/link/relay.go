package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// A relay passes on what one node has for another that it cannot reach: A sends C a frame that names B, C sends B a frame that names A, and the
// answer goes back the same way. There are two frames, and what came in the second is never passed on, so that nothing goes round in
// circles or further than one node. A relay only uses a connection that stands: it makes none, and takes no detour itself.
//
// A relay does not read what it passes on. Time travels beside it, as what is left when the relay writes its frame; B takes the sooner of that
// and the deadline in the message.

// RelayHandler is a [Handler] that wants to know for whom a relay speaks. Without it such messages are handled like those of the relay.
type RelayHandler interface {
	Handler
	// HandleRelayed is Handle for a message that node via, whose certificate proves it, says that it has from node origin. Whatever node
	// via may not do by itself must not be done for it.
	HandleRelayed(env *abi.Envelope, origin, via cluster.NodeID, done func(payload []byte, err error))
}

// passage is what goes through a relay, on one of its two legs.
type passage struct {
	frame   uint64         // frameRelay or frameRelayed
	node    cluster.NodeID // on the first leg whom it is for, on the second whom it is from
	boot    uint64         // its run; on the first leg the least
	service string         // that is asked; "": it is a message
	body    []byte         // the question, or the envelope unless env is set
	env     *abi.Envelope
}

func (p *passage) size() int {
	if p.env != nil {
		return len(p.env.Payload)
	}
	return len(p.body)
}

func (p *passage) append(b []byte, id uint64, deadline time.Duration, now time.Duration, clock time.Time) []byte {
	body := p.body
	if p.env != nil {
		body = abi.AppendEnvelope(nil, p.env, clock)
	}
	at := len(b)
	b = abi.AppendUint(openFrame(b, 7, p.frame), id)
	b = abi.AppendUint(abi.AppendText(b, string(p.node)), p.boot)
	b = abi.AppendUint(b, uint64(max(1, (deadline-now+time.Millisecond-1).Milliseconds()))) // the sender's clock is to strike first
	return sealFrame(abi.AppendBytes(abi.AppendText(b, p.service), body), at)
}

// readPassage reads the items of a frame of either leg. The body is that of the frame's buffer.
func readPassage(frame uint64, items int, r *abi.Reader) (id uint64, left time.Duration, p passage, err error) {
	if items != 6 {
		r.Fail("a relayed message or question has six items")
	}
	id = r.Uint()
	p = passage{frame: frame, node: cluster.NodeID(r.Text()), boot: r.Uint()}
	left = time.Duration(min(r.Uint(), uint64(abi.MaxDuration/time.Millisecond))) * time.Millisecond
	p.service, p.body = r.Text(), r.Bytes()
	r.End()
	if r.Err() == nil {
		if _, bad := cluster.NewTopology(cluster.Node{ID: p.node, Authority: "127.0.0.1:1"}); bad != nil {
			r.Fail("a relayed message or question names no node: " + bad.Error())
		}
	}
	return id, left, p, r.Err()
}

// unrelayed is a failure of the relay itself, rather than of the node that it was to reach.
type unrelayed struct{ failure *abi.Error }

func (u unrelayed) Error() string { return u.failure.Error() }

// WireCode returns the failure's code.
func (u unrelayed) WireCode() abi.Code { return u.failure.Code }

// relayShare is the part of a connection's bounds that is for what is passed on for others: one in so many.
const relayShare = 4

// relay passes on what the other end has for a third node, or says why not.
func (c *inbound) relay(items int, r *abi.Reader, now time.Time) error {
	id, left, pass, err := readPassage(frameRelay, items, r)
	if err != nil {
		return err
	}
	t := &taken{c: c, id: id}
	if err := t.begin(len(pass.body)); err != nil {
		t.done(nil, unrelayed{abi.AsError(err)})
		return nil
	}
	size := int64(len(pass.body) + callOverhead)
	to, err := c.link.ferry(c.from, &pass, size)
	if err != nil {
		t.done(nil, unrelayed{abi.AsError(err)})
		return nil
	}
	onward := &passage{frame: frameRelayed, node: c.from, boot: c.peer.boot, service: pass.service, body: append([]byte(nil), pass.body...)}
	k := c.link.getPost(func(payload []byte, err error) {
		to.passed(size)
		var own *Error
		if errors.As(err, &own) { // the other node's are no [*Error]
			err = unrelayed{abi.AsError(err)}
		}
		t.done(payload, err)
	})
	k.pass, k.request, k.deadline = onward, true, c.link.at(now.Add(left))
	claimed, _, err := to.send(k, now)
	switch {
	case err == errRetired:
		err = to.p.error(abi.ErrUnreachable, "the connection was just lost, nothing was sent", nil)
		fallthrough
	case err != nil:
		k.done(nil, err)
	default:
		c.link.passedOn.Add(1)
		if claimed {
			to.out.kick()
		}
	}
	return nil
}

// ferry returns the connection over which something may be passed on for another node, with a place on it taken.
func (l *Link) ferry(origin cluster.NodeID, pass *passage, size int64) (*outbound, error) {
	refuse := func(code abi.Code, why string) error {
		return abi.NewError(code, fmt.Sprintf("node %s %s", l.cfg.Self.ID, why))
	}
	if pass.node == l.cfg.Self.ID || pass.node == origin {
		return nil, refuse(abi.ErrInvalidArgument, "is asked to pass something on to itself, or to who has sent it")
	}
	c := l.reaches(pass.node, pass.boot)
	if c == nil {
		return nil, refuse(abi.ErrUnreachable, fmt.Sprintf("does not reach node %s either; nothing was sent", pass.node))
	}
	n, bytes := c.passing.Add(1), c.passingBytes.Add(size)
	// A fence is refused for nobody's sake: there is one for each connection that comes to stand, and messages would overtake each other.
	if pass.service != fenceService && n > 1 && (n > int64(l.cfg.MaxInFlight/relayShare) || bytes > int64(l.cfg.MaxBytes/relayShare)) {
		c.passed(size)
		return nil, refuse(abi.ErrOverloaded, fmt.Sprintf("passes on %d messages to node %s already; nothing was sent", n-1, pass.node))
	}
	return c, nil
}

// passed gives back the place that ferry took.
func (c *outbound) passed(size int64) {
	c.passing.Add(-1)
	c.passingBytes.Add(-size)
}

// reaches returns the connection to a member that stands and takes what is passed on, nil without one.
func (l *Link) reaches(node cluster.NodeID, boot uint64) *outbound {
	p := l.member(node)
	if p == nil {
		return nil
	}
	c := p.current.Load()
	if c == nil || !c.stands(featureRelay) || c.peer.boot < boot {
		return nil
	}
	return c
}

// relayed takes what the other end passes on for a third node. It is a member, or it has no business to.
func (c *inbound) relayed(items int, r *abi.Reader, now time.Time) error {
	id, left, pass, err := readPassage(frameRelayed, items, r)
	if err != nil {
		return err
	}
	l := c.link
	s := &served{taken: taken{c: c, id: id}}
	err = s.begin(len(pass.body))
	switch {
	case err != nil:
	case pass.node == l.cfg.Self.ID || pass.node == c.from:
		err = abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("node %s passes on to node %s what it says is from node %s", c.from, l.cfg.Self.ID, pass.node))
	case !l.isMember(c.from):
		err = abi.NewError(abi.ErrUnreachable, fmt.Sprintf("node %s is no member for node %s, which takes nothing through it; nothing was done",
			c.from, l.cfg.Self.ID))
	case pass.service == fenceService: // what was passed on before it has been handled
	case pass.service != "" && !l.relays[pass.service]:
		err = abi.NewError(abi.ErrDenied, fmt.Sprintf("node %s does not answer %.200q through another node", l.cfg.Self.ID, pass.service))
	default:
		l.relayedIn.Add(1)
		if pass.service == "" {
			c.takeRelayed(s, &pass, now, now.Add(left))
		} else {
			c.answer(&s.taken, pass.service, pass.body, left)
		}
		return nil
	}
	s.done(nil, err)
	return nil
}

// takeRelayed hands a message that came through the other end to the handler.
func (c *inbound) takeRelayed(s *served, pass *passage, now, deadline time.Time) {
	l := c.link
	err := abi.DecodeEnvelope(pass.body, &s.env, now)
	switch {
	case err != nil:
		err = fmt.Errorf("node %s cannot read the message: %w", l.cfg.Self.ID, err)
	case len(s.env.Payload) > l.cfg.MaxMessage:
		err = tooLarge(len(s.env.Payload), l.cfg.MaxMessage)
	}
	if err != nil {
		s.done(nil, err)
		return
	}
	s.env.Payload = append([]byte(nil), s.env.Payload...)
	if s.env.Deadline.IsZero() || deadline.Before(s.env.Deadline) {
		s.env.Deadline = deadline
	}
	defer c.guard("the handler of messages", s.done)
	if h, ok := l.cfg.Handler.(RelayHandler); ok {
		h.HandleRelayed(&s.env, pass.node, c.from, s.done)
		return
	}
	l.cfg.Handler.Handle(&s.env, c.from, s.done)
}

// fenceService is what the link itself is asked through a relay: nothing, answered when all that was passed on before has been handed over.
const fenceService = "link.fence"

var errRejoined = errors.New("the node is reached directly again")

// detoured hands a call to the relay. An error other than errRejoined is the call's outcome.
func (p *peer) detoured(d *detour, k *call, now time.Time) (c *outbound, claimed bool, under int, err error) {
	if k.ask != nil && !p.link.relays[k.ask.service] {
		return nil, false, 0, p.unreachable(k.ask.service + " is asked through no other node")
	}
	done, request := k.done, k.request
	k.pass = &passage{frame: frameRelay, node: p.id, boot: p.boot.Load(), env: k.env}
	if k.ask != nil {
		k.pass.service, k.pass.body = k.ask.service, k.ask.payload
	}
	k.request = true // a relay says when it cannot
	if k.answered == nil {
		k.done = func(payload []byte, err error) {
			err = p.through(d.via, err)
			switch {
			case done != nil:
				done(payload, err)
			case err != nil:
				p.link.log.warn("a message that awaits no reply was lost", p.id, "node", p.id, "err", err)
			}
		}
	}
	c, claimed, under, err = d.send(k, now)
	if err == nil {
		p.link.relayedOut.Add(1)
		return c, claimed, under, nil
	}
	k.pass, k.done, k.request = nil, done, request
	if err != errRejoined {
		err = p.through(d.via, err)
	}
	return nil, false, 0, err
}

// send is outbound.send of the relay's connection. What has been sent when the detour is closed is before its fence.
func (d *detour) send(k *call, now time.Time) (c *outbound, claimed bool, under int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, false, 0, errRejoined
	}
	if c = d.via.current.Load(); c == nil || !c.stands(featureRelay) {
		return nil, false, 0, d.via.error(abi.ErrUnreachable, "it is not connected any more", nil)
	}
	if claimed, under, err = c.send(k, now); err == errRetired || err == errAside {
		err = d.via.error(abi.ErrUnreachable, "it takes no more messages", nil)
	}
	if err == nil {
		d.used = true
	}
	return c, claimed, under, err
}

// through says of a failure on the way through a relay whom the message was for, and has another relay sought if this one is none.
func (p *peer) through(via *peer, err error) error {
	var own unrelayed
	var lost *Error
	e := p.error(abi.CodeOf(err), "", nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		if e.Text = own.failure.Message; e.Code == abi.ErrTimeout { // the relay's clock struck first
			e.Text, e.Err = textLate, context.DeadlineExceeded
		}
	case errors.As(err, &lost):
		e.Text, e.Err = lost.Text, lost.Err
	default:
		return err // the other node's
	}
	switch e.Code {
	case abi.ErrUnreachable, abi.ErrShuttingDown, abi.ErrUnsupported: // it is the relay that leaves, or is too old
		e.Code, e.Self, e.Relays = abi.ErrUnreachable, p.link.cfg.Self.ID, []cluster.NodeID{via.id}
		p.strike(via)
	default:
		e.Text = "through node " + string(via.id) + ": " + e.Text
	}
	return e
}
