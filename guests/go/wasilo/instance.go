package wasilo

import (
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/wasilo/wasilo/abi"
)

// SDK names this SDK and its version in descriptions.
const SDK = "go 0.1"

// Instance runs one activation of one of several kinds by ABI v1, events in, effects out, both in bytes. In a module
// there is one, made by [Serve]; package wasilotest makes them natively. It is not safe for concurrent use.
type Instance struct {
	host  Host
	kinds []*Definition
	log   *slog.Logger // nil until somebody logs
	rand  *rand.Rand
	noise entropy

	self   abi.Self
	known  bool     // self was told
	actor  *actor   // nil until activation has begun, and after it failed
	method *handler // the last one that was asked for, of actor
	ready  []*actor // new ones, of each kind, that warm made; nil once activation has begun

	ctx  Context
	ev   abi.Event
	in   eventReader
	turn uint64

	// What the running turn asked for, encoded, and how much it is.
	effects []byte
	count   int
	// What the activation asked for and could not be sent yet: an error or a read-only turn carries nothing.
	held      []byte
	heldCount int

	nextHandle  uint64
	firstHandle uint64 // of the running turn, less one
	completions map[uint64]func(*Context, *abi.Event)
	answered    []*pendingReply // in the running turn

	// Buffers that turns share. out holds the last output until the next turn.
	out, spare, req, res []byte
	enc, arg             encoder
	dec                  decoder
}

// NewInstance returns an instance that can become any actor of the given kinds, asking host. It panics if two have the
// same name.
func NewInstance(host Host, kinds ...*Definition) *Instance {
	i := &Instance{host: host}
	for _, k := range kinds {
		if i.kind(k.Name()) >= 0 {
			panic("wasilo: kind " + k.Name() + " is served twice")
		}
		i.kinds = append(i.kinds, k)
	}
	i.in.kinds = i.kinds
	i.ctx.inst = i
	i.noise.host = host
	i.rand = rand.New(&i.noise)
	return i
}

// kind finds a kind in i.kinds by name, -1 if there is none.
func (i *Instance) kind(name string) int {
	for n, k := range i.kinds {
		if k.Name() == name {
			return n
		}
	}
	return -1
}

// Describe returns the module's description. It asks nothing of the host.
func (i *Instance) Describe() []byte {
	d := abi.Description{Major: abi.Major, Minor: abi.Minor, SDK: SDK}
	for _, k := range i.kinds {
		d.Kinds = append(d.Kinds, k.Describe())
	}
	return abi.AppendDescription(nil, &d)
}

// Turn handles one encoded event and returns the encoded output, which is valid until the next call. A handler that
// panics, panics here.
func (i *Instance) Turn(event []byte) []byte {
	i.begin()
	err := i.in.read(event, &i.ev)
	if err != nil {
		err = abi.NewError(abi.ErrInternal, "the host's event: "+err.Error())
	} else if err = i.activate(); err == nil {
		err = i.handle()
	}
	return i.finish(err)
}

func (i *Instance) begin() {
	i.turn++
	i.ctx = Context{inst: i, live: true}
	i.effects, i.count = i.effects[:0], 0
	i.firstHandle = i.nextHandle
	clear(i.answered)
	i.answered = i.answered[:0]
	i.noise.left = 0
	i.enc = encoder{}
	trim(&i.out)
	trim(&i.spare)
	trim(&i.req)
	trim(&i.res)
	trim(&i.arg.b)
	trim(&i.effects)
}

// trim drops a buffer that is large: a large message is no reason to keep its room.
func trim(b *[]byte) {
	if cap(*b) > abi.InboxKeep {
		*b = nil
	}
}

// activate makes the actor, at its first event.
func (i *Instance) activate() error {
	if s := i.ev.Self; s != nil {
		i.self, i.known = *s, true
	}
	if i.actor != nil {
		return nil
	}
	if !i.known {
		return abi.NewError(abi.ErrInternal, "the host's first event does not say who this actor is (key 13)")
	}
	kind := i.kind(i.self.Identity.Kind())
	if kind < 0 {
		return abi.NewError(abi.ErrUnsupported, "this module does not serve kind "+i.self.Identity.Kind())
	}
	if i.ready != nil {
		i.actor, i.ready = i.ready[kind], nil
	} else {
		i.actor = i.kinds[kind].create()
	}
	i.method, i.in.methods = nil, i.kinds[kind].methods
	i.ctx.reason = i.self.Reason
	if err := i.actor.activate(&i.ctx); err != nil {
		i.actor = nil
		e := *wireError(err)
		e.Message = "the actor could not be activated: " + e.Message
		return &e
	}
	i.ctx.reason = ""
	if err := i.ctx.failure; err != nil {
		i.actor = nil
		return err
	}
	i.held, i.heldCount = append(i.held[:0], i.effects...), i.count
	i.effects, i.count = i.effects[:0], 0
	i.firstHandle = i.nextHandle
	return nil
}

func (i *Instance) handle() error {
	c, ev := &i.ctx, &i.ev
	switch ev.Tag {
	case abi.EventCall, abi.EventMessage:
		if i.method == nil || i.method.desc.Name != ev.Method {
			i.method = i.actor.method(ev.Method)
		}
		m := i.method
		if m == nil {
			return abi.NewError(abi.ErrUnknownMethod, "kind "+i.self.Identity.Kind()+" has no method "+strconv.Quote(ev.Method))
		}
		c.readOnly, c.method = m.desc.ReadOnly, true
		if ev.Tag == abi.EventMessage {
			return m.run(c, ev.Payload, nil)
		}
		i.enc = encoder{b: append(i.out[:0], abi.OutReply)}
		return m.run(c, ev.Payload, &i.enc)
	case abi.EventCompletion:
		if done := i.completions[ev.Handle]; done != nil {
			delete(i.completions, ev.Handle)
			done(c, ev)
		}
		return nil
	case abi.EventTimer:
		name, _, _ := strings.Cut(ev.Timer, ":")
		h := i.actor.timer(name)
		if h == nil {
			return abi.NewError(abi.ErrInternal, "kind "+i.self.Identity.Kind()+" has no handler for timer "+strconv.Quote(ev.Timer))
		}
		return h.run(c, ev.Payload, nil)
	case abi.EventPassivate:
		c.reason = ev.Reason
		return i.actor.passivate(c)
	}
	return abi.NewError(abi.ErrUnsupported, "this SDK ("+SDK+") does not know event "+strconv.Itoa(int(ev.Tag)))
}

// effect queues one effect.
func (i *Instance) effect(e *abi.Effect) {
	i.effects = abi.AppendEffect(i.effects, e)
	i.count++
}

// finish ends the turn and encodes its output.
func (i *Instance) finish(err error) []byte {
	c, ev := &i.ctx, &i.ev
	c.live = false
	ev.Payload, i.dec = nil, decoder{} // the event's bytes are not ours beyond the turn
	if err == nil {
		err = c.failure
	}
	if err != nil {
		i.undo()
	}
	reply := abi.Effect{Tag: abi.EffectReply, Token: ev.Token}
	answers := ev.Tag == abi.EventCall
	switch {
	case err != nil && (i.heldCount == 0 || c.readOnly || !answers):
		i.out = abi.AppendError(append(i.out[:0], abi.OutError), wireError(err))
		return i.out
	case err != nil:
		reply.Err = wireError(err)
	case c.deferred != nil:
		answers = false
	case answers && i.count == 0 && (i.heldCount == 0 || c.readOnly):
		i.out = i.enc.b
		return i.out
	case answers:
		i.out = i.enc.b
		reply.Payload = i.out[1:]
	}
	// The reply comes last: whoever has it may rely on the rest having been sent.
	n := i.heldCount + i.count
	if answers {
		n++
	}
	b := abi.AppendArray(append(i.spare[:0], abi.OutEffects), n)
	b = append(append(b, i.held...), i.effects...)
	if answers {
		b = abi.AppendEffect(b, &reply)
	}
	i.held, i.heldCount = nil, 0
	i.out, i.spare = b, i.out
	return b
}

// undo forgets what a failed turn asked for.
func (i *Instance) undo() {
	i.effects, i.count = i.effects[:0], 0
	for h := i.firstHandle + 1; h <= i.nextHandle; h++ {
		delete(i.completions, h)
	}
	for _, p := range i.answered {
		p.done = false
	}
	if i.ctx.deferred != nil {
		i.ctx.deferred.done = true // the error is the answer
	}
}
