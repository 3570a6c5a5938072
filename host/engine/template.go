package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine/slot"
)

// template is a module of the image tier as it is when it has started: instances are copies of it. It is made once, with a fixed clock
// and fixed randomness, so it is the same on every node, and its hash names it there.
type template struct {
	hash    [sha256.Size]byte
	pool    *slot.Pool
	globals []value

	// The inbox that the guest has provided already; both 0 if it did not.
	inbox, inboxSize uint32
}

// prepareTemplate makes the module's template.
func (m *Module) prepareTemplate(ctx context.Context) error {
	i := &Instance{module: m, log: m.eng.cfg.Log}
	i.limits(m.leastOptions())
	i.console.init(i)
	b := m.newBody(nil)
	b.attach(i)
	b.env.fix()
	defer b.discard()
	err := i.run(ctx, "its start", func() error {
		if err := b.instantiate(); err != nil {
			return err
		}
		i.takeStack()
		return b.initialize()
	})
	if err != nil {
		return err
	}
	t := &template{}
	image, err := m.photograph(t, b)
	if err != nil {
		return err
	}
	// What every instance needs before its first turn is in the template too. A guest that fails here fails in its first turn again,
	// where its caller hears of it. Its fuel ends it, since time would not everywhere at the same place: with that the module is refused.
	image = bytes.Clone(image)
	i.fuel = inboxFuel
	var fail *abi.Error
	err = i.run(ctx, abi.ExportInbox, func() error {
		fail = i.provideInbox(inboxStep)
		i.phase = phaseStart // whose time it is
		return nil
	})
	if err != nil {
		return err
	}
	if fail == nil {
		if image, err = m.photograph(t, b); err != nil {
			return err
		}
		t.inbox, t.inboxSize = i.inbox, i.inboxSize
	}
	i.console.end()
	if t.pool, err = slot.NewPool(image, m.eng.cfg.Slots); err != nil {
		return fmt.Errorf("the memory of its template: %w", err)
	}
	m.template = t
	return nil
}

// inboxFuel is what a guest may use to provide the inbox of its template: some ten milliseconds at most. A stock Go guest takes 6,000.
const inboxFuel = 16 << 20

// photograph takes the state of b. The image is valid until b goes on.
func (m *Module) photograph(t *template, b *body) (image []byte, err error) {
	if t.globals, err = b.read(t.globals[:0]); err != nil {
		return nil, err
	}
	image, ok := b.mem.Read(0, b.mem.Size())
	if !ok {
		return nil, fmt.Errorf("a memory of %d bytes", b.mem.Size())
	}
	h := sha256.New()
	h.Write(m.forged.OutputSHA256[:])
	var n [16]byte
	for _, v := range t.globals {
		binary.LittleEndian.PutUint64(n[:], v.lo)
		binary.LittleEndian.PutUint64(n[8:], v.hi)
		h.Write(n[:])
	}
	binary.LittleEndian.PutUint64(n[:], uint64(len(image)))
	h.Write(n[:])
	h.Write(image)
	h.Sum(t.hash[:0])
	return image, nil
}

// take returns a body that is as the template has it, with i for its user.
func (m *Module) take(i *Instance) (*body, error) {
	m.mu.Lock()
	if n := len(m.idle); n > 0 {
		b := m.idle[n-1]
		m.idle[n-1] = nil
		m.idle = m.idle[:n-1]
		m.mu.Unlock()
		m.eng.ledger.idle.Add(-1)
		b.attach(i)
		return b, nil
	}
	m.mu.Unlock()
	s, err := m.template.pool.Get(m.eng.cfg.MaxMemory)
	if err != nil {
		return nil, abi.NewError(abi.ErrOverloaded, "no memory for another instance: "+err.Error())
	}
	b := m.newBody(s)
	b.attach(i)
	if err := b.instantiate(); err != nil {
		b.discard()
		return nil, err
	}
	if err := b.write(m.template.globals); err != nil {
		b.discard()
		return nil, err
	}
	return b, nil
}

// give takes a body back whose user is done with it. It is used again if all that its user left in it can be undone.
func (m *Module) give(b *body) {
	i := b.user
	i.guard.arm(i.guard.deadline)
	if m.closed.Load() || b.memory.slot == nil || b.mod.IsClosed() || b.write(m.template.globals) != nil || !b.reset() {
		b.discard()
		return
	}
	if b.turn != nil && stackOf(b.turn) > keepStack {
		b.turn = nil
	}
	b.user, b.gauge, b.known = nil, nil, false
	b.env = environment{}
	b.memory.refused = notRefused
	m.eng.ledger.live.Add(-1)
	m.eng.ledger.idle.Add(1)
	m.mu.Lock()
	if len(m.idle) < m.keepBodies() && !m.closed.Load() {
		m.idle = append(m.idle, b)
		b = nil
	}
	m.mu.Unlock()
	if b != nil {
		b.discard()
	}
}

// reset makes the memory the template's again, and reports whether it is.
func (b *body) reset() bool {
	if b.known {
		return b.memory.slot.ResetPages(b.captured)
	}
	return b.memory.slot.Reset()
}

// dropIdle discards the bodies that nobody uses.
func (m *Module) dropIdle() {
	m.mu.Lock()
	idle := m.idle
	m.idle = nil
	m.mu.Unlock()
	for _, b := range idle {
		b.discard()
	}
}
