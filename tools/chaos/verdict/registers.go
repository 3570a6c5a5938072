package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wasilo/wasilo/abi"
)

// Checks of a history. Their names are part of the report.
const (
	CheckLinear   = "linearisable within an epoch"
	CheckOrder    = "no answer of an older epoch after a newer one's"
	CheckOnce     = "one activation an epoch"
	CheckTwice    = "nothing is done twice"
	CheckRefused  = "what was refused was not done"
	CheckInvented = "every value was written, before it is seen"
	CheckBegan    = "an epoch begins with one value"
	CheckMove     = "a planned move loses no state"
	CheckFailed   = "no answer that should not be"
)

// Options say what a history is held against.
type Options struct {
	// Hibernates says whether the state of an actor outlives its activation where nothing is lost.
	Hibernates func(actor string) bool
	// Ordered: epochs of one actor can be compared, whichever node gave them. Else they are told apart, and come in the order in
	// which they were first seen.
	Ordered bool
	// Faults, of which the violent ones may end an epoch with a loss; Grace is how long after one that still counts as its doing.
	Faults []Span
	Grace  time.Duration
	// Patience bounds the search for an order of one epoch's requests. 0: 10 s.
	Patience time.Duration
}

// Result is what became of the check of a history.
type Result struct {
	Actors, Epochs, OK, Refused, Unknown, Failed int
	During                                       int // of OK, those that overlap a fault
	Moves                                        int // changes of an epoch, of actors that hibernate, without a violent fault
	Kept                                         int // of them, those that went on with the state before
	Lost                                         int // changes of an epoch, of actors that hibernate, by a violent fault, with a loss
	Violations                                   Violations
}

// Registers checks a history. It may be in any order.
func Registers(ops []Op, opt Options) *Result {
	if opt.Patience <= 0 {
		opt.Patience = 10 * time.Second
	}
	r := &Result{}
	byActor := make(map[string][]*Op)
	for i := range ops {
		o := &ops[i]
		byActor[o.Actor] = append(byActor[o.Actor], o)
		switch o.Outcome {
		case OK:
			r.OK++
			if slices.ContainsFunc(opt.Faults, func(s Span) bool { return o.Return >= s.From && o.Call <= s.To }) {
				r.During++
			}
		case Refused:
			r.Refused++
		case Unknown:
			r.Unknown++
		default:
			r.Failed++
			r.Violations.add(CheckFailed, o.Actor, o.Return, "%s by %s: %s %s", o.Do, o.Gateway, o.Code, o.Error)
		}
	}
	r.Actors = len(byActor)
	for actor, ops := range byActor {
		h := newHistory(actor, ops)
		r.Epochs += len(h.epochs)
		h.values(&r.Violations)
		h.order(&r.Violations, opt.Ordered)
		for _, e := range h.epochs {
			h.once(&r.Violations, e)
			h.began(&r.Violations, e, opt.Hibernates(actor))
			h.linear(&r.Violations, e, opt.Patience)
		}
		if opt.Hibernates(actor) {
			h.moves(r, opt)
		}
	}
	r.Violations.sort()
	return r
}

// history is that of one actor.
type history struct {
	actor  string
	ok     []*Op          // by call
	writes map[string]*Op // by the value
	open   []*Op          // writes with an unknown outcome
	epochs []*epoch       // in their order
}

// epoch is what was answered under one.
type epoch struct {
	abi.Epoch
	ok          []*Op // by call
	first, last int64 // of calls and returns
}

func newHistory(actor string, ops []*Op) *history {
	h := &history{actor: actor, writes: make(map[string]*Op)}
	byEpoch := make(map[abi.Epoch]*epoch)
	slices.SortStableFunc(ops, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range ops {
		if o.New != "" {
			h.writes[o.New] = o
		}
		switch o.Outcome {
		case Unknown:
			if o.New != "" {
				h.open = append(h.open, o)
			}
		case OK:
			h.ok = append(h.ok, o)
			e := byEpoch[o.Epoch()]
			if e == nil {
				e = &epoch{Epoch: o.Epoch(), first: o.Call}
				byEpoch[e.Epoch] = e
				h.epochs = append(h.epochs, e)
			}
			e.ok, e.last = append(e.ok, o), max(e.last, o.Return)
		}
	}
	return h
}

// values checks where every value that was seen comes from.
func (h *history) values(v *Violations) {
	type sight struct {
		value string
		epoch abi.Epoch
	}
	seen := make(map[sight]bool)
	done := make(map[string]abi.Epoch) // under which epoch the write was carried out
	check := func(o *Op, value string, here bool) {
		if value == "" || seen[sight{value, o.Epoch()}] {
			return
		}
		w := h.writes[value]
		switch {
		case w == nil:
			v.add(CheckInvented, h.actor, o.Return, "%s under %s answers %q, which nobody wrote", o.Do, text(o.Epoch()), value)
		case o.Return < w.Call:
			v.add(CheckInvented, h.actor, o.Return, "%s under %s answers %q, which is written later", o.Do, text(o.Epoch()), value)
		case w.Outcome == Refused:
			v.add(CheckRefused, h.actor, o.Return, "%s under %s answers %q, which was refused (%s) by %s", o.Do, text(o.Epoch()), value, w.Code, w.Gateway)
		case here: // it was not there when the epoch began
			before, again := done[value]
			if w.Outcome == OK {
				before, again = w.Epoch(), true
			}
			if again && before != o.Epoch() {
				v.add(CheckTwice, h.actor, o.Return, "%q was written under %s, and under %s", value, text(before), text(o.Epoch()))
			}
			done[value] = o.Epoch()
		}
		seen[sight{value, o.Epoch()}] = true
	}
	for _, o := range h.ok {
		check(o, o.Began, false)
		check(o, o.Value, o.Value != o.Began)
	}
}

// order puts the epochs into their order, and checks that their answers came in it.
func (h *history) order(v *Violations, ordered bool) {
	if !ordered {
		slices.SortStableFunc(h.epochs, func(a, b *epoch) int { return cmp.Compare(a.ok[0].Return, b.ok[0].Return) })
		return
	}
	slices.SortFunc(h.epochs, func(a, b *epoch) int { return compare(a.Epoch, b.Epoch) })
	returns := slices.Clone(h.ok)
	slices.SortStableFunc(returns, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	var newest *Op // of those that have returned
	told := make(map[[2]abi.Epoch]bool)
	for _, o := range h.ok {
		for ; len(returns) > 0 && returns[0].Return < o.Call; returns = returns[1:] {
			if newest == nil || newest.Epoch().Less(returns[0].Epoch()) {
				newest = returns[0]
			}
		}
		if newest == nil || !o.Epoch().Less(newest.Epoch()) {
			continue
		}
		if pair := [2]abi.Epoch{o.Epoch(), newest.Epoch()}; !told[pair] { // one of a pair is enough to read
			told[pair] = true
			v.add(CheckOrder, h.actor, o.Return, "%s by %s, begun %v after %s had answered by %s, is answered under %s", o.Do, o.Gateway,
				time.Duration(o.Call-newest.Return), text(newest.Epoch()), newest.Gateway, text(o.Epoch()))
		}
	}
}

// once checks that the turns of an epoch are counted through: those of two activations would have the same numbers.
func (h *history) once(v *Violations, e *epoch) {
	byN := make(map[uint64]*Op)
	for _, o := range e.ok {
		if other := byN[o.N]; other != nil {
			v.add(CheckOnce, h.actor, o.Return, "%s has two turns of number %d, answered by %s and %s", text(e.Epoch), o.N, other.Gateway, o.Gateway)
			return
		}
		byN[o.N] = o
	}
}

// began checks that all answers of an epoch agree on its beginning, and that a volatile actor begins with nothing.
func (h *history) began(v *Violations, e *epoch, hibernates bool) {
	for _, o := range e.ok {
		if o.Began != e.ok[0].Began {
			v.add(CheckBegan, h.actor, o.Return, "%s began with %q, and with %q", text(e.Epoch), e.ok[0].Began, o.Began)
			return
		}
		if !hibernates && o.Began != "" {
			v.add(CheckBegan, h.actor, o.Return, "%s of a volatile actor began with %q", text(e.Epoch), o.Began)
			return
		}
	}
}

// linear searches for an order of an epoch's requests in which one register would have answered them so.
func (h *history) linear(v *Violations, e *epoch, patience time.Duration) {
	seen := make(map[string]bool)
	ops := make([]porcupine.Operation, 0, len(e.ok))
	for _, o := range e.ok {
		seen[o.Value] = true
		ops = append(ops, porcupine.Operation{ClientId: o.Client, Input: o, Output: o, Call: o.Call, Return: o.Return})
	}
	for _, o := range h.open {
		// One whose value nobody saw under this epoch makes no difference to it, in whatever place it stood: as if it had come last.
		if seen[o.New] && o.New != e.ok[0].Began {
			ops = append(ops, porcupine.Operation{ClientId: o.Client, Input: o, Output: o, Call: o.Call, Return: math.MaxInt64})
		}
	}
	switch porcupine.CheckOperationsTimeout(register(e.ok[0].Began), ops, patience) {
	case porcupine.Illegal:
		v.add(CheckLinear, h.actor, e.last, "no order of the %d requests of %s explains its answers", len(ops), text(e.Epoch))
	case porcupine.Unknown:
		v.add(CheckLinear, h.actor, e.last, "whether the %d requests of %s have an order was not found out in %v", len(ops), text(e.Epoch), patience)
	}
}

// register is one that begins with a value.
func register(began string) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return began },
		Step: func(state, in, out any) (bool, any) {
			now, o := state.(string), out.(*Op)
			unknown := o.Outcome == Unknown
			switch o.Do {
			case Write:
				return unknown || o.Value == o.New, o.New
			case Cas:
				if now == o.Old {
					return unknown || o.Value == o.New, o.New
				}
			}
			return unknown || o.Value == now, now
		},
	}
}

// moves checks with what each epoch goes on.
func (h *history) moves(r *Result, opt Options) {
	for i := 1; i < len(h.epochs); i++ {
		before, e := h.epochs[i-1], h.epochs[i]
		last := slices.MaxFunc(before.ok, func(a, b *Op) int { return cmp.Compare(a.N, b.N) })
		began := e.ok[0].Began
		w := h.writes[began]
		// A write that nobody has heard of may have come after the last one that was answered.
		kept := began == last.Value || w != nil && w.Outcome == Unknown && w.Call <= e.last
		violent := slices.ContainsFunc(opt.Faults, func(s Span) bool {
			return s.Violent && s.From <= e.first && s.To+int64(opt.Grace) >= before.last
		})
		switch {
		case !violent && kept:
			r.Moves++
			r.Kept++
		case !violent:
			r.Moves++
			r.Violations.add(CheckMove, h.actor, e.first, "%s ended with %q, and %s begins with %q, without a fault that could excuse it",
				text(before.Epoch), last.Value, text(e.Epoch), began)
		case !kept:
			r.Lost++
		}
	}
}

func compare(a, b abi.Epoch) int {
	return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Index, b.Index))
}

// text is an epoch as people read it.
func text(e abi.Epoch) string { return fmt.Sprintf("epoch %d.%d", e.Generation, e.Index) }
