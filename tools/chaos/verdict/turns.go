package verdict

import (
	"cmp"
	"slices"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/turnlog"
)

// Checks of the turn logs.
const (
	CheckFenced   = "no turn under an epoch once a newer one is enabled"
	CheckDisjoint = "spans of turns of two activations are disjoint"
	CheckAssigned = "an epoch is enabled on one node"
)

// TurnResult is what became of the check of the turn logs.
type TurnResult struct {
	Records, Activations int
	Double               int           // pairs of activations of one actor whose turns overlap in time
	Longest              time.Duration // of such overlaps
	Ends                 []int64       // when each of them was over
	Violations           Violations
}

// life is one activation.
type life struct {
	node       string
	run        int // of the node
	epoch      abi.Epoch
	number     uint64
	from, last int64 // enabled; the last turn, 0: it had none
}

func (l *life) name() string { return text(l.epoch) + " on " + l.node }

// Turns checks the turn logs of all nodes, each in its own order, by what happened when. ordered is that of [Options]: without it
// the epochs of different nodes mean nothing to each other, and only overlaps are looked for.
func Turns(logs [][]turnlog.Record, ordered bool) *TurnResult {
	r := &TurnResult{}
	type event struct {
		*turnlog.Record
		life *life
	}
	byActor := make(map[string][]event)
	for _, log := range logs {
		run := 0
		lives := make(map[uint64]*life)
		for i := range log {
			rec := &log[i]
			r.Records++
			switch rec.What {
			case turnlog.Opened:
				run++
				lives = make(map[uint64]*life)
				continue
			case turnlog.Enabled:
				lives[rec.Activation] = &life{node: rec.Node, run: run, epoch: rec.Epoch(), number: rec.Activation, from: rec.At}
				r.Activations++
			}
			l := lives[rec.Activation]
			if l == nil {
				r.Violations.add(CheckFenced, rec.Actor, rec.At, "%s %s an activation that was never enabled", rec.Node, rec.What)
				continue
			}
			if rec.What != turnlog.Enabled {
				l.last = max(l.last, rec.At)
			}
			byActor[rec.Actor] = append(byActor[rec.Actor], event{rec, l})
		}
	}
	for actor, events := range byActor {
		slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.At, b.At) })
		var lives []*life
		var newest *life // enabled so far
		told := make(map[[2]*life]bool)
		owners := make(map[abi.Epoch]*life)
		for _, ev := range events {
			l := ev.life
			if ev.What == turnlog.Enabled {
				lives = append(lives, l)
				if newest == nil || newest.epoch.Less(l.epoch) {
					newest = l
				}
				if first := owners[l.epoch]; first == nil {
					owners[l.epoch] = l
				} else if ordered && (first.node != l.node || first.run != l.run) {
					r.Violations.add(CheckAssigned, actor, ev.At, "%s is enabled on %s and, %v later, on %s", text(l.epoch), first.node,
						time.Duration(l.from-first.from), l.node)
				}
				continue
			}
			if pair := [2]*life{l, newest}; ordered && newest != nil && l.epoch.Less(newest.epoch) && newest.from < ev.At && !told[pair] {
				told[pair] = true
				r.Violations.add(CheckFenced, actor, ev.At, "%s under %s, %v after %s was enabled", ev.What, l.name(),
					time.Duration(ev.At-newest.from), newest.name())
			}
		}
		r.overlaps(actor, lives)
	}
	r.Violations.sort()
	return r
}

// overlaps looks for activations of one actor that took turns in turn.
func (r *TurnResult) overlaps(actor string, lives []*life) {
	lives = slices.DeleteFunc(lives, func(l *life) bool { return l.last == 0 })
	slices.SortStableFunc(lives, func(a, b *life) int { return cmp.Compare(a.from, b.from) })
	for i, l := range lives {
		for _, o := range lives[i+1:] {
			if o.from >= l.last {
				break
			}
			d := time.Duration(min(l.last, o.last) - o.from)
			r.Double++
			r.Ends = append(r.Ends, min(l.last, o.last))
			r.Longest = max(r.Longest, d)
			r.Violations.add(CheckDisjoint, actor, o.from, "%s takes turns for %v while %s does", o.name(), d, l.name())
		}
	}
}

// Settled is the longest that an actor went on living twice after what had brought it about was over: faults end at the ends of spans.
func (r *TurnResult) Settled(faults []Span) (longest time.Duration) {
	for _, end := range r.Ends {
		healed, during := int64(0), false
		for i := range faults {
			during = during || faults[i].From <= end && end <= faults[i].To
			if faults[i].To < end {
				healed = max(healed, faults[i].To)
			}
		}
		if healed != 0 && !during {
			longest = max(longest, time.Duration(end-healed))
		}
	}
	return longest
}

// Homes tells on which node each actor lived at a time.
func Homes(logs [][]turnlog.Record, at int64) map[string]string {
	type home struct {
		node string
		at   int64
	}
	homes := make(map[string]home)
	for _, log := range logs {
		for i := range log {
			if rec := &log[i]; rec.What != turnlog.Opened && rec.At < at && rec.At >= homes[rec.Actor].at {
				homes[rec.Actor] = home{rec.Node, rec.At}
			}
		}
	}
	out := make(map[string]string, len(homes))
	for actor, h := range homes {
		out[actor] = h.node
	}
	return out
}
