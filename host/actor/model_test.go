package actor

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

// The mailbox is a queue, whatever was put back, grown or given back.
func TestMailboxModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q mailbox
		var model []uint64
		next := uint64(0)
		make1 := func() message { next++; return message{own: &own{gen: next}} }
		same := func(m message, want uint64) {
			if m.own == nil || m.own.gen != want {
				t.Fatalf("%+v, want %d", m.own, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) { q.push(make1()); model = append(model, next) },
			"pushFront": func(*rapid.T) {
				q.pushFront(make1())
				model = append([]uint64{next}, model...)
			},
			"pop": func(t *rapid.T) {
				m, ok := q.pop()
				if ok != (len(model) > 0) {
					t.Fatalf("pop: %v of %d", ok, len(model))
				}
				if ok {
					same(m, model[0])
					model = model[1:]
				}
			},
			"take": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "take") > 0 {
					return
				}
				for i, m := range q.take() {
					same(m, model[i])
				}
				model = nil
			},
			"shrink": func(*rapid.T) { q.shrink() },
			"": func(t *rapid.T) {
				if q.len() != len(model) {
					t.Fatalf("%d messages, want %d", q.len(), len(model))
				}
			},
		})
	})
}

// wait is an edge of the model: those who wait, and for whom.
type modelWait struct {
	edge    *edge
	env     *abi.Envelope
	waiting []abi.Identity
	target  abi.Identity
}

// The picture of who waits refuses exactly what closes a cycle among the waits that stand.
func TestWaitsModel(t *testing.T) {
	var ids []abi.Identity
	for i := range 6 {
		id, err := abi.NewIdentity("k", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	rapid.Check(t, func(t *rapid.T) {
		w := NewWaits()
		var waits []*modelWait
		looseOf := map[*abi.Envelope]*loose{}
		over := map[*abi.Envelope]bool{}
		// reach says whether from waits, directly or not, for one of goals.
		reach := func(from abi.Identity, goals []abi.Identity) bool {
			seen := map[abi.Identity]bool{from: true}
			todo := []abi.Identity{from}
			for len(todo) > 0 {
				at := todo[0]
				todo = todo[1:]
				for _, m := range waits {
					if slices.Contains(m.waiting, at) && !seen[m.target] {
						seen[m.target] = true
						todo = append(todo, m.target)
					}
				}
			}
			return slices.ContainsFunc(goals, func(g abi.Identity) bool { return g != from && seen[g] })
		}
		forget := func(gone func(*modelWait) bool) { waits = slices.DeleteFunc(waits, gone) }
		pick := func(t *rapid.T) *abi.Envelope { // one that is loose
			var all []*abi.Envelope
			for env := range looseOf {
				all = append(all, env)
			}
			if len(all) == 0 {
				return nil
			}
			slices.SortFunc(all, func(a, b *abi.Envelope) int {
				return slices.CompareFunc(a.Chain, b.Chain, func(x, y abi.Identity) int { return slices.Index(ids, x) - slices.Index(ids, y) })
			})
			return all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				chain := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 0, 3, rapid.ID).Draw(t, "chain")
				target := rapid.SampledFrom(ids).Draw(t, "target")
				if slices.Contains(chain, target) {
					return // refused before
				}
				env := &abi.Envelope{Chain: chain}
				var l *loose
				if rapid.Bool().Draw(t, "loose") {
					l = w.loosen(env)
					looseOf[env] = l
					if rapid.IntRange(0, 4).Draw(t, "over") == 0 {
						l.giveUp()
						over[env] = true
					}
				}
				if rapid.IntRange(0, 3).Draw(t, "force") == 0 {
					if e := w.force(env, target, ""); e != nil {
						waits = append(waits, &modelWait{e, env, slices.Clone(chain), target})
					} else if len(chain) > 0 && !over[env] {
						t.Fatal("no edge")
					}
					return
				}
				e, cycle := w.add(env, target)
				want := len(chain) > 0 && !over[env] && reach(target, chain)
				if (cycle != nil) != want {
					t.Fatalf("cycle %v, want one: %v", cycle, want)
				}
				if cycle != nil && (cycle[0] != target || cycle[len(cycle)-1] != target || !slices.Contains(chain, cycle[len(cycle)-2])) {
					t.Fatalf("%v is no way from %v to %v", cycle, target, chain)
				}
				if e != nil {
					waits = append(waits, &modelWait{e, env, slices.Clone(chain), target})
				}
			},
			"drop": func(t *rapid.T) {
				if len(waits) == 0 {
					return
				}
				m := waits[rapid.IntRange(0, len(waits)-1).Draw(t, "which")]
				m.edge.drop()
				m.edge.drop()
				forget(func(o *modelWait) bool { return o == m })
			},
			"giveUp": func(t *rapid.T) {
				if env := pick(t); env != nil {
					looseOf[env].giveUp()
					over[env] = true
					forget(func(o *modelWait) bool { return o.env == env })
					if len(w.awaited(env)) > 0 {
						t.Fatal("awaited")
					}
				}
			},
			"answered": func(t *rapid.T) {
				if env := pick(t); env != nil {
					for _, m := range waits {
						if m.env == env {
							m.edge.drop()
						}
					}
					forget(func(o *modelWait) bool { return o.env == env })
					looseOf[env].answered()
					delete(looseOf, env)
				}
			},
			"leave": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "who")
				w.leave(id, nil)
				for _, m := range waits {
					if i := slices.Index(m.waiting, id); i >= 0 {
						m.waiting = m.waiting[i+1:]
					}
				}
				forget(func(o *modelWait) bool { return len(o.waiting) == 0 })
			},
			"": func(t *rapid.T) {
				who := map[abi.Identity]bool{}
				for _, m := range waits {
					for _, id := range m.waiting {
						who[id] = true
					}
				}
				if w.Len() != len(who) || int(w.slack.Load()) != len(looseOf) {
					t.Fatalf("%d wait, want %d; %d loose, want %d", w.Len(), len(who), w.slack.Load(), len(looseOf))
				}
			},
		})
	})
}
