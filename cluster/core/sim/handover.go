package sim

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// How a hand-over is carried out. It is the host's work in production.
const (
	quietTime = turnTime + time.Second // for turns to end
	sendAgain = 300 * time.Millisecond // if the target does not say that it has everything
	sendTries = 8
)

// handOver is a move whose source this process is.
type handOver struct {
	part     core.Part
	target   core.Member
	until    time.Duration
	cargo    *cargo // what was given up here
	manifest []byte
	over     bool
	stuck    bool // what is proposed for it is held up: a fault
}

// cargo is what travels.
type cargo struct {
	images []*image
}

func (c *cargo) manifest() []byte {
	h := fnv.New64a()
	for _, img := range c.images {
		b := binary.LittleEndian.AppendUint64(nil, uint64(img.actor.i))
		_, _ = h.Write(binary.LittleEndian.AppendUint64(b, uint64(img.value)))
	}
	return h.Sum(nil)
}

func has(part *core.Part, a *actor) bool {
	return part.Partitions.Has(a.part) && slices.Contains(part.Kinds, a.kind)
}

// handOver holds what is new, and waits for what runs.
func (p *proc) handOver(part core.Part, target core.Member) {
	p.w.stats.HandOvers++
	h := &handOver{part: part, target: target, until: p.local() + quietTime}
	p.moves[part.Move] = h
	p.step(&core.Input{Type: core.Hold, Part: part})
	p.after(0, func() { p.settleDown(h) })
	p.w.faults.atMove(p, p.w.nodeByID(target.ID))
}

func (p *proc) settleDown(h *handOver) {
	if h.over {
		return
	}
	quiet := true
	for _, a := range slices.Clone(p.live) {
		if has(&h.part, a.actor) {
			a.giveBack()
			quiet = quiet && !a.ended && a.idle()
		}
	}
	if !quiet {
		if p.local() >= h.until {
			p.giveUp(h)
			return
		}
		p.after(15*time.Millisecond, func() { p.settleDown(h) })
		return
	}
	for _, a := range slices.Clone(p.live) {
		if has(&h.part, a.actor) {
			p.step(&core.Input{Type: core.Releasing, Lease: a.lease})
			a.leaving = true
			a.sleep()
		}
	}
	if p.step(&core.Input{Type: core.Seal, Part: h.part}).Type != core.Sealed {
		p.after(15*time.Millisecond, func() { p.settleDown(h) }) // one is about to be made
		return
	}
	c := &cargo{}
	for _, img := range p.images {
		if img != nil && has(&h.part, img.actor) {
			c.images = append(c.images, img)
		}
	}
	h.manifest = c.manifest()
	p.ship(h, c, sendTries)
}

// giveBack has what waits in the mailbox ask for its way again, which is to wait for the move. What a turn waits for stays.
func (a *activation) giveBack() {
	if !a.ready || !a.busy {
		return
	}
	var given []*work
	a.mailbox = slices.DeleteFunc(a.mailbox, func(k *work) bool {
		if len(k.chain) == 0 {
			given = append(given, k)
		}
		return len(k.chain) == 0
	})
	for _, k := range given {
		k.reply(reply{code: abi.ErrOwnershipChanged})
	}
}

func (p *proc) giveUp(h *handOver) {
	p.w.stats.HandOversFailed++
	p.w.note(p, "gives up handing over move %d", h.part.Move)
	p.tell(&core.TenantInput{Type: core.TenantHandOverFailed, Move: h.part.Move})
}

// ship sends the cargo until the target has it all.
func (p *proc) ship(h *handOver, c *cargo, tries int) {
	if h.over || h.cargo != nil {
		return
	}
	if tries == 0 {
		p.giveUp(h)
		return
	}
	w, move := p.w, h.part.Move
	w.toNode(p.n, w.nodeByID(h.target.ID), func(q *proc) {
		if q.boot != h.target.Boot {
			return
		}
		copied := &cargo{}
		for _, img := range c.images {
			other := *img
			copied.images = append(copied.images, &other)
		}
		q.staged[move] = copied
		w.toProc(q.n, p, func() {
			if h.over || h.cargo != nil {
				return
			}
			// From here on nothing of it runs here again, unless the log says that the move fell.
			h.cargo = c
			for _, img := range c.images {
				p.images[img.actor.i] = nil
			}
			w.faults.atRelease(h)
			p.tell(&core.TenantInput{Type: core.TenantHandedOver, Move: move, Manifest: h.manifest})
		})
	})
	p.after(sendAgain, func() { p.ship(h, c, tries-1) })
}

// resume is the end of a hand-over, either way.
func (p *proc) resume(part core.Part) {
	if h := p.moves[part.Move]; h != nil {
		h.over = true
		delete(p.moves, part.Move)
		if h.cargo != nil {
			for _, img := range h.cargo.images {
				if e, ok := p.tenant.Holds(part.Group, img.actor.part); ok && e == img.epoch {
					p.images[img.actor.i] = img
					p.w.stats.Restored++
				}
			}
		}
	}
	p.step(&core.Input{Type: core.Unhold, Part: part})
}

// takeIn makes what was received with a released move this node's own.
func (p *proc) takeIn(e *core.TenantEffect) {
	w := p.w
	c := p.staged[e.Part.Move]
	delete(p.staged, e.Part.Move)
	w.note(p, "takes in move %d under %v", e.Part.Move, e.Epoch)
	if c == nil {
		c = &cargo{}
	}
	w.mon.takenIn(p, e, c)
	w.stats.TakenIn++
	for _, img := range c.images {
		if !e.Part.Partitions.Has(img.actor.part) {
			continue
		}
		img.epoch = e.Epoch
		p.images[img.actor.i] = img
		w.stats.Images++
	}
}
