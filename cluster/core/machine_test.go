package core

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

// world is a machine among an adapter and a silo that answer in every order they may: activation requests return late, ends
// are reported before they do, more than once, or after the lease has changed hands.
type world struct {
	t *rapid.T
	m *Machine

	requests []Lease              // activation requests that have not returned
	live     map[Identity][]Lease // activations that the silo has and that have not ended
	told     map[Lease]bool       // the silo was told to revoke
	cache    map[Identity]Lease   // the PID cache
	waiting  map[Identity]bool    // somebody waits for a Wake
	past     []Lease              // every lease that ever was
	seq      uint64
	empty    int
}

const stateless = LeaseState(0)

// key is a lease without its state.
func key(l Lease) Lease {
	l.State = stateless
	return l
}

func (w *world) step(in Input) []Effect {
	effects := w.m.Step(&in, time.Duration(w.seq))
	for _, e := range effects {
		switch e.Type {
		case Admit:
			w.cache[e.Lease.Identity] = key(e.Lease)
		case Invalidate:
			if c, ok := w.cache[e.Lease.Identity]; ok && c.Epoch == e.Lease.Epoch {
				delete(w.cache, e.Lease.Identity)
			}
		case Revoke:
			for _, r := range w.requests {
				if r.Same(e.Lease) {
					w.t.Fatalf("revoke of %v overtakes its activation request", e.Lease)
				}
			}
			w.told[key(e.Lease)] = true
		case Wake:
			if !w.waiting[e.Identity] {
				w.t.Fatalf("woke %s, for which nobody waits", e.Identity)
			}
			delete(w.waiting, e.Identity)
		case Empty:
			if w.empty++; w.empty > 1 || w.m.Ledger().Len() != 0 {
				w.t.Fatalf("empty %d times, with %d leases", w.empty, w.m.Ledger().Len())
			}
		}
	}
	for _, ev := range w.m.TakeEvents(nil) {
		if w.seq++; ev.Seq != w.seq {
			w.t.Fatalf("event %d follows %d", ev.Seq, w.seq-1)
		}
	}
	return effects
}

// end takes an activation out of the silo and tells its end.
func (w *world) end(l Lease, how InputType) {
	all := w.live[l.Identity]
	for i := range all {
		if all[i] == l {
			w.live[l.Identity] = append(all[:i:i], all[i+1:]...)
			break
		}
	}
	w.step(Input{Type: how, Lease: l, Code: abi.ErrTrap})
}

func (w *world) invariants() {
	m := w.m
	for id, all := range w.live {
		alive := 0
		for _, l := range all {
			if cur, ok := m.Ledger().Lease(id); !ok || cur.Epoch != l.Epoch {
				if !w.told[l] { // released by force: it must have been told to go, or be about to be
					pending := false
					for _, r := range w.requests {
						pending = pending || r.Same(l)
					}
					if !pending && m.Phase() != PhaseStopped {
						w.t.Fatalf("%v lives on without a lease and was never told", l)
					}
				}
				continue
			}
			alive++
		}
		if alive > 1 || len(all) > 1 && m.Phase() != PhaseStopped {
			w.t.Fatalf("%d activations of %s at once: %v", len(all), id, all)
		}
	}
	for id, c := range w.cache {
		cur, ok := m.Ledger().Lease(id)
		if !ok || cur.Epoch != c.Epoch || cur.State != LeaseActive && m.Phase() == PhaseRunning {
			w.t.Fatalf("the cache has %v, the ledger %v (%v)", c, cur, ok)
		}
	}
	for p := range Partition(Partitions) {
		m.Ledger().Leases(p, func(l Lease) bool {
			owner, _ := m.View().OwnerOf(l.Identity)
			if l.State != LeaseRevoked && (owner == nil || owner.ID != "n1") {
				w.t.Fatalf("lease %v is in force, but the owner is %v", l, owner)
			}
			return true
		})
	}
}

// TestMachineKeepsItsPromises drives a machine through random histories: never two live activations of one
// identity, no cached PID without an active lease, no lease in force off its owner, nobody waits for ever.
func TestMachineKeepsItsPromises(t *testing.T) {
	n1, n2 := Member{ID: "n1", Authority: "h:1"}, Member{ID: "n2", Authority: "h:2"}
	topologies := []*Topology{must(NewTopology(n1)), must(NewTopology(n1, n2)), must(NewTopology(n2))}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, m: NewMachine(Config{Self: "n1"}), live: map[Identity][]Lease{}, told: map[Lease]bool{},
			cache: map[Identity]Lease{}, waiting: map[Identity]bool{}}
		w.step(Input{Type: Start})
		w.step(Input{Type: TopologyChanged, Topology: topologies[0]})
		w.step(Input{Type: SetKinds, Node: "n1", Kinds: []string{"k"}})
		w.step(Input{Type: SetKinds, Node: "n2", Kinds: []string{"k"}})
		pick := func(from []Lease, name string) (Lease, int) {
			i := rapid.IntRange(0, len(from)-1).Draw(t, name)
			return from[i], i
		}
		resolve := func() {
			id := identity("k", rapid.IntRange(0, 4).Draw(t, "id"))
			in := Input{Type: Resolve, Identity: id, Existing: rapid.IntRange(0, 4).Draw(t, "existing") == 0}
			if c, ok := w.cache[id]; ok && rapid.Bool().Draw(t, "refused") {
				in.Refused = c.Epoch
				delete(w.cache, id)
			}
			effects := w.step(in)
			if len(effects) != 1 || effects[0].Type > Refuse {
				t.Fatalf("a resolve was answered by %v", effects)
			}
			switch e := effects[0]; e.Type {
			case Use:
				if e.Handle.(Lease) != key(e.Lease) {
					t.Fatalf("the handle of %v is of %v", e.Lease, e.Handle)
				}
				w.cache[id] = key(e.Lease)
			case Wait:
				w.waiting[id] = true
			case Activate:
				l := key(e.Lease)
				if len(w.live[id]) > 0 {
					t.Fatalf("activate %v beside %v", l, w.live[id])
				}
				w.requests = append(w.requests, l)
				w.live[id] = append(w.live[id], l) // the silo may have it from now on
				w.past = append(w.past, l)
			}
		}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 15).Draw(t, "op"); op {
			case 0, 1, 2, 3, 4:
				resolve()
			case 5, 6: // a request returns
				if len(w.requests) == 0 {
					continue
				}
				l, i := pick(w.requests, "request")
				w.requests = append(w.requests[:i:i], w.requests[i+1:]...)
				alive := false
				for _, a := range w.live[l.Identity] {
					alive = alive || a == l
				}
				if alive && rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
					w.end(l, Failed)
				} else {
					w.step(Input{Type: Activated, Lease: l, Handle: l})
				}
			case 7, 8, 9: // progress of an activation
				var all []Lease
				for i := range 5 {
					all = append(all, w.live[identity("k", i)]...)
				}
				if len(all) == 0 {
					continue
				}
				l, _ := pick(all, "live")
				switch how := rapid.SampledFrom([]InputType{Started, Releasing, Terminated, Failed}).Draw(t, "how"); how {
				case Terminated, Failed:
					w.end(l, how)
				default:
					w.step(Input{Type: how, Lease: l})
				}
			case 10: // a late report about a lease that has ended
				if len(w.past) == 0 {
					continue
				}
				l, _ := pick(w.past, "past")
				for _, a := range w.live[l.Identity] {
					if a == l {
						l.Epoch.Index += 1000 // not of one that lives
					}
				}
				w.step(Input{Type: rapid.SampledFrom([]InputType{Started, Releasing, Terminated, Failed}).Draw(t, "late"), Lease: l})
			case 11:
				w.step(Input{Type: TopologyChanged, Topology: rapid.SampledFrom(topologies).Draw(t, "topology")})
			case 12:
				w.step(Input{Type: SetKinds, Node: "n1", Kinds: rapid.SampledFrom([][]string{{"k"}, {"other"}, {}}).Draw(t, "kinds")})
			case 13:
				w.step(Input{Type: rapid.SampledFrom([]InputType{Block, Unblock}).Draw(t, "list"),
					Node: rapid.SampledFrom([]NodeID{"n1", "n2"}).Draw(t, "node")})
			case 14:
				if rapid.IntRange(0, 9).Draw(t, "shutdown") == 0 {
					w.step(Input{Type: Shutdown})
				}
			case 15:
				if w.m.Phase() == PhaseShuttingDown && rapid.IntRange(0, 3).Draw(t, "force") == 0 {
					w.step(Input{Type: ReleaseAll})
				}
			}
			w.invariants()
		}
		// Let everything end: whoever waits is woken, and the ledger is empty.
		for len(w.requests) > 0 {
			l := w.requests[0]
			w.requests = w.requests[1:]
			w.step(Input{Type: Activated, Lease: l, Handle: l})
		}
		for i := range 5 {
			for _, l := range w.live[identity("k", i)] {
				w.end(l, Terminated)
			}
		}
		l := w.m.Ledger()
		if len(w.waiting) != 0 || len(w.cache) != 0 || l.Len() != 0 || l.InForce() != 0 || l.Started() != 0 {
			t.Fatalf("left: %v wait, %v cached, %d leases, %d in force, %d started", w.waiting, w.cache, l.Len(), l.InForce(), l.Started())
		}
	})
}

// BenchmarkActivationCycle is what the core costs an activation: resolve, activated, started, terminated, with 100,000
// other leases in the ledger.
func BenchmarkActivationCycle(b *testing.B) {
	m := NewMachine(Config{Self: "n1"})
	step := func(in *Input) []Effect { return m.Step(in, 0) }
	step(&Input{Type: Start})
	step(&Input{Type: TopologyChanged, Topology: must(NewTopology(Member{ID: "n1", Authority: "h:1"}))})
	step(&Input{Type: SetKinds, Node: "n1", Kinds: []string{"counter"}})
	for i := range 100_000 {
		l := step(&Input{Type: Resolve, Identity: identity("counter", i)})[0].Lease
		step(&Input{Type: Activated, Lease: l, Handle: 1})
	}
	ids := make([]Identity, 4096)
	for i := range ids {
		ids[i] = identity("counter", 1_000_000+i)
	}
	var spare []Event
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		lease := step(&Input{Type: Resolve, Identity: ids[i%len(ids)]})[0].Lease
		step(&Input{Type: Activated, Lease: lease, Handle: m})
		step(&Input{Type: Started, Lease: lease})
		step(&Input{Type: Terminated, Lease: lease, Reason: "idle"})
		spare = m.TakeEvents(spare)
	}
}

func BenchmarkPartitionOf(b *testing.B) {
	id := must(abi.NewIdentity("counter", "some-identity-42"))
	b.ReportAllocs()
	for b.Loop() {
		PartitionOf(id)
	}
}

func BenchmarkReplan(b *testing.B) {
	members := make([]Member, 100)
	for i := range members {
		members[i] = Member{ID: NodeID("n" + identity("k", i).ID()), Authority: "h:1"}
	}
	all, fewer := must(NewTopology(members...)), must(NewTopology(members[1:]...))
	m := NewMachine(Config{Self: "n1"})
	for _, node := range members {
		m.Step(&Input{Type: SetKinds, Node: node.ID, Kinds: []string{"counter"}}, 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		t := all
		if i%2 == 1 {
			t = fewer
		}
		m.Step(&Input{Type: TopologyChanged, Topology: t}, 0)
		m.TakeEvents(nil)
	}
}
