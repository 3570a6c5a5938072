package core

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

func identity(kind string, i int) Identity { return must(abi.NewIdentity(kind, strconv.Itoa(i))) }

func TestLeaseTransitions(t *testing.T) {
	states := []LeaseState{0, LeaseActive, LeaseReleasing, LeaseReleased, LeaseRevoked}
	want := map[string]bool{
		"active>releasing": true, "active>revoked": true, "active>released": true,
		"releasing>revoked": true, "releasing>released": true, "revoked>released": true,
	}
	for _, from := range states {
		for _, to := range states {
			if got := from.CanBecome(to); got != want[from.String()+">"+to.String()] {
				t.Errorf("%s to %s: %v", from, to, got)
			}
		}
	}
}

func TestLedgerRefuses(t *testing.T) {
	var l Ledger
	id := identity("k", 1)
	lease := Lease{Identity: id, Epoch: abi.Epoch{Index: 5}, Owner: "n1"}
	e := must(l.issue(lease, 3))
	if _, err := l.issue(lease, 3); !errors.Is(err, ErrStaleEpoch) {
		t.Errorf("the same epoch again: %v", err)
	}
	lease.Epoch.Index = 6
	if _, err := l.issue(lease, 3); !errors.Is(err, ErrLeaseExists) {
		t.Errorf("a second lease: %v", err)
	}
	if err := l.move(e, LeaseActive); !errors.Is(err, ErrLeaseTransition) {
		t.Errorf("active to active: %v", err)
	}
	if err := l.move(e, LeaseReleased); err != nil || l.Len() != 0 {
		t.Errorf("release: %v, %d left", err, l.Len())
	}
	if err := l.move(e, LeaseReleasing); !errors.Is(err, ErrLeaseTransition) {
		t.Errorf("out of released: %v", err)
	}
}

// TestLedgerAgainstAModel drives a ledger and a plain list side by side.
func TestLedgerAgainstAModel(t *testing.T) {
	type row struct {
		e       *entry
		started bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var l Ledger
		model := map[Identity]*row{}
		epoch := uint64(0)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			id := identity("k", rapid.IntRange(0, 9).Draw(t, "id"))
			r := model[id]
			switch op := rapid.IntRange(0, 3).Draw(t, "op"); {
			case op == 0:
				epoch++
				e, err := l.issue(Lease{Identity: id, Epoch: abi.Epoch{Index: epoch}, Owner: "n"}, Partition(rapid.IntRange(0, 2).Draw(t, "p")))
				if (err == nil) != (r == nil) {
					t.Fatalf("issue %s: %v, while the model has %v", id, err, r)
				}
				if err == nil {
					model[id] = &row{e: e}
				}
			case r == nil:
			case op == 1:
				l.start(r.e)
				r.started = true
			default:
				to := rapid.SampledFrom([]LeaseState{LeaseReleasing, LeaseRevoked, LeaseReleased}).Draw(t, "to")
				if can := r.e.lease.State.CanBecome(to); (l.move(r.e, to) == nil) != can {
					t.Fatalf("%s to %s: possible is %v", r.e.lease.State, to, can)
				}
				if r.e.lease.State == LeaseReleased {
					delete(model, id)
				}
			}
			force, started := 0, 0
			for id, r := range model {
				if r.e.lease.State != LeaseRevoked {
					force++
				}
				if r.started {
					started++
				}
				if lease, ok := l.Lease(id); !ok || lease != r.e.lease {
					t.Fatalf("lost %s", id)
				}
			}
			listed := 0
			for p := range Partition(3) {
				l.Leases(p, func(lease Lease) bool {
					if model[lease.Identity] == nil {
						t.Fatalf("partition %d lists %s, which has ended", p, lease.Identity)
					}
					listed++
					return true
				})
			}
			if l.Len() != len(model) || listed != len(model) || l.InForce() != force || l.Started() != started {
				t.Fatalf("len %d, listed %d, in force %d, started %d; want %d, %d, %d", l.Len(), listed, l.InForce(), l.Started(),
					len(model), force, started)
			}
		}
	})
}

func TestEventsAreTakenOnceAndInOrder(t *testing.T) {
	var q queue
	var spare []Event
	next := uint64(1)
	for round := range 5 {
		for range round + 1 {
			q.push(0, Event{Type: NodeUnblocked})
		}
		got := q.take(spare)
		if len(got) != round+1 {
			t.Fatalf("round %d: took %d", round, len(got))
		}
		for _, ev := range got {
			if ev.Seq != next {
				t.Fatalf("seq %d, want %d", ev.Seq, next)
			}
			next++
		}
		spare = got
	}
	if len(q.take(nil)) != 0 {
		t.Error("something was left")
	}
}

func TestNamesOfEverything(t *testing.T) {
	for e := TopologyApplied; e <= ShutdownCompleted; e++ {
		if e.String() == "unknown" {
			t.Errorf("event %d has no name", e)
		}
	}
	if s := fmt.Sprint(EventType(0), EventType(200), MemberMode, ClientMode, LeaseState(9)); s != "unknown unknown member client invalid" {
		t.Error(s)
	}
	for r := RefusedNotStarted; r <= RefusedNotActive; r++ {
		if r.Code() == abi.ErrInternal {
			t.Errorf("refusal %d has no code", r)
		}
	}
}
