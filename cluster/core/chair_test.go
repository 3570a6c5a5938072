package core

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// chairWorld is a chair with the table it looks at. Its proposals are committed when the test says so.
type chairWorld struct {
	t     *testing.T
	table *Table
	chair *Chair
	now   time.Duration
}

func newChairWorld(t *testing.T, table *Table) *chairWorld {
	w := &chairWorld{t: t, table: table, now: time.Minute}
	w.chair = NewChair(table, nil, w.now)
	return w
}

func (w *chairWorld) apply(commands ...Command) []Result {
	w.t.Helper()
	results, err := w.table.Apply(w.table.Index()+1, AppendEntry(nil, commands...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.chair.Applied(w.now)
	return results
}

func (w *chairWorld) lead() {
	w.chair.Led(w.now)
	w.chair.Barrier(w.now)
}

// tick advances the time and returns what the chair proposes, as words.
func (w *chairWorld) tick(d time.Duration) []Command {
	for ; d > longestGap; d -= longestGap {
		w.now += longestGap
		w.chair.Tick(w.now, true)
	}
	w.now += d
	return w.chair.Tick(w.now, false)
}

// settle commits what the chair proposes until it proposes nothing more.
func (w *chairWorld) settle() (n int) {
	w.t.Helper()
	for ; n < 100; n++ {
		commands := w.tick(0)
		if len(commands) == 0 {
			return n
		}
		w.apply(commands...)
	}
	w.t.Fatal("the chair comes to no end")
	return n
}

func words(commands []Command) (all []string) {
	for _, c := range commands {
		switch c.Type {
		case ExpireSession:
			all = append(all, fmt.Sprintf("expire %d @%d", c.Session, c.Index))
		case Assign:
			all = append(all, fmt.Sprintf("assign %d to %d", c.Partitions.Len(), c.Session))
		case BeginMove:
			all = append(all, fmt.Sprintf("move %d from %d to %d", c.Partitions.Len(), c.From, c.Session))
		case Regroup:
			all = append(all, fmt.Sprintf("group %v", c.Kinds))
		default:
			all = append(all, c.Type.String())
		}
	}
	return all
}

func (w *chairWorld) expect(got []Command, want ...string) {
	w.t.Helper()
	if !slices.Equal(words(got), want) {
		w.t.Errorf("the chair proposes %q, want %q", words(got), want)
	}
}

func open(n int, kinds ...string) Command {
	return Command{Type: OpenSession, Node: NodeID(fmt.Sprintf("n%d", n)), Boot: uint64(n), Authority: fmt.Sprintf("h%d:1", n), Kinds: kinds}
}

// TestSilenceCountsFromTheApply: a session ends 3.15 s after this voter applied its last renewal, not before, and again until it is done.
func TestSilenceCountsFromTheApply(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1))
	w.expect(w.tick(ExpireAfter - time.Millisecond))
	w.apply(Command{Type: RenewSession, Session: 1})
	w.expect(w.tick(ExpireAfter - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "expire 1 @2")
	w.expect(w.tick(RenewEvery - time.Millisecond)) // it is on its way
	w.expect(w.tick(time.Millisecond), "expire 1 @2")
	w.apply(Command{Type: RenewSession, Session: 1}) // it has come before the expiry
	if r := w.apply(Command{Type: ExpireSession, Session: 1, Index: 2}); r[0].Void == "" {
		t.Error("the expiry is not void")
	}
	w.expect(w.tick(ExpireAfter-time.Millisecond), []string{}...)
	w.expect(w.tick(time.Millisecond), "expire 1 @3")
	if got := w.chair.Tick(w.now+time.Hour, true); got != nil {
		t.Errorf("while busy it proposes %q", words(got))
	}
}

// TestWhoStoodStillHearsFirst: a leader that was stopped for longer than a session lasts ends nobody's when it goes on, before it could have heard
// them; who is silent still is ended a little later.
func TestWhoStoodStillHearsFirst(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1), open(2))
	for range 20 {
		w.expect(w.tick(RenewEvery))
		w.apply(Command{Type: RenewSession, Session: 1}, Command{Type: RenewSession, Session: 2})
	}
	for range 3 { // it stands still again and again
		w.now += time.Minute
		w.expect(w.chair.Tick(w.now, false))
	}
	w.now += time.Minute
	w.apply(Command{Type: RenewSession, Session: 1})
	w.expect(w.tick(ExpireAfter - 4*longestGap - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "expire 2 @21")
	w.expect(w.tick(RenewEvery - time.Millisecond))
	for range 10 { // so slow a leader hears, and ends, who is silent
		w.now += time.Minute
		w.chair.Tick(w.now, true)
	}
	w.expect(w.tick(0), "expire 1 @22", "expire 2 @21")
}

// TestSessionsThatLastLonger, on both sides: the node's own end comes before the leader's.
func TestSessionsThatLastLonger(t *testing.T) {
	const lasting = time.Minute
	w := newChairWorld(t, NewTable())
	w.chair.LetSessionsLast(lasting)
	w.lead()
	w.apply(open(1))
	w.expect(w.tick(lasting))
	w.expect(w.tick(lasting/20 - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "expire 1 @1")

	tenant := NewTenant(TenantConfig{Node: "n1", Boot: 1, Authority: "h1:1", SessionTime: lasting}, NewTable())
	sent := 10 * time.Second
	tenant.Step(&TenantInput{Type: TenantTick}, sent)
	tenant.Step(&TenantInput{Type: TenantAnswered, Ask: 1, Session: 1}, sent+time.Second)
	if until := tenant.Until(); until != sent+lasting {
		t.Errorf("it may run turns until %v, want %v", until, sent+lasting)
	}
}

// TestTakeover: a new leader judges nobody's silence before its barrier and two renewals' time, and counts from its own applies.
func TestTakeover(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.apply(open(1))
	w.expect(w.tick(time.Hour)) // a follower
	w.chair.Led(w.now)
	if w.chair.Leading() {
		t.Error("it leads before the barrier")
	}
	w.expect(w.tick(time.Hour))
	w.chair.Barrier(w.now)
	w.expect(w.tick(2*RenewEvery - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "expire 1 @1")
	w.chair.Deposed()
	w.chair.Barrier(w.now) // of the leadership before
	w.expect(w.tick(time.Hour))
	w.lead()
	w.apply(Command{Type: RenewSession, Session: 1})
	w.expect(w.tick(ExpireAfter - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "expire 1 @2")
}

// TestRestoredCountsAsRenewed: when sessions were renewed that a snapshot brings, nobody knows.
func TestRestoredCountsAsRenewed(t *testing.T) {
	w := newChairWorld(t, grown(t, open(1)))
	w.lead()
	w.expect(w.tick(ExpireAfter - time.Millisecond))
	w.table = grown(t, open(1), open(2))
	w.chair.Restored(w.table, w.now)
	w.expect(w.tick(ExpireAfter - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "expire 1 @1", "expire 2 @2")
}

// TestNewLife: after a recovery nothing is given away for as long as a session of the life before may last.
func TestNewLife(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(Command{Type: RaiseGeneration, Generation: 2})
	w.tick(ExpireAfter - time.Second)
	w.apply(open(1, "a"))
	w.expect(w.tick(time.Second - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "group [a]")
}

// TestOrphansAtOnce: all that an expiry left is given away in one entry, without waiting for anything to settle.
func TestOrphansAtOnce(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a"), open(2, "a"), open(3, "a"))
	w.settle()
	n := 0
	for _, s := range w.table.Groups()[0].Slots {
		if s.Owner == 3 {
			n++
		}
	}
	w.apply(Command{Type: ExpireSession, Session: 3, Index: 99})
	orphans := w.tick(0)
	left := 0
	for _, c := range orphans {
		if c.Type != Assign {
			t.Errorf("also %q", words([]Command{c}))
		}
		left += c.Partitions.Len()
	}
	if n == 0 || left != n {
		t.Errorf("%d partitions are orphans, %d were given away", n, left)
	}
}

// TestMovesAreBounded: a node that joins is given nothing that has an owner until all were the same for 2 s, then a few partitions at a time.
func TestMovesAreBounded(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a"), open(2, "a"))
	w.settle()
	w.now += time.Second
	w.apply(open(3, "a"))
	w.expect(w.tick(0))
	w.expect(w.tick(Settle - time.Millisecond))
	w.apply(Command{Type: UpdateSession, Session: 4, Kinds: []string{"a", "b"}}, Command{Type: RenewSession, Session: 1},
		Command{Type: RenewSession, Session: 2}, Command{Type: RenewSession, Session: 4})
	w.settle() // b has a group and an owner at once; a waits anew
	w.expect(w.tick(Settle - time.Millisecond))
	moves := w.tick(time.Millisecond)
	w.expect(moves, "move 32 from 2 to 4", "move 32 from 2 to 4")
	w.apply(moves...)
	w.expect(w.tick(0)) // both ways are full
}

// TestAFailedPairBacksOff: a move that fell is tried again after 5 s; one that was released and settled between two looks has not failed.
func TestAFailedPairBacksOff(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a"), open(2, "a"))
	w.settle()
	w.apply(Command{Type: UpdateSession, Session: 1, Kinds: []string{"a"}, Draining: true})
	first := w.tick(0)
	w.expect(first, "move 32 from 1 to 2", "move 32 from 1 to 2") // a drain waits for nothing
	w.apply(first...)
	w.tick(0)
	m := w.table.Moves()
	w.apply(Command{Type: Release, Session: 1, Group: m[0].Group, Partitions: m[0].Partitions, Index: w.table.Index(), Move: m[0].ID},
		Command{Type: SettleMove, Move: m[0].ID})
	next := w.tick(0)
	w.expect(next, "move 32 from 1 to 2")
	w.apply(next...)
	w.tick(0)
	w.apply(Command{Type: AbortMove, Move: m[1].ID})
	w.expect(w.tick(0))
	for _, s := range []SessionID{1, 2} {
		w.apply(Command{Type: RenewSession, Session: s})
	}
	w.now += ExpireAfter - time.Second
	for _, s := range []SessionID{1, 2} {
		w.apply(Command{Type: RenewSession, Session: s})
	}
	w.expect(w.tick(MoveAgain - ExpireAfter + time.Second - time.Millisecond))
	w.expect(w.tick(time.Millisecond), "move 32 from 1 to 2")
}

// TestAMoveThatTakesTooLong is given up after 30 s.
func TestAMoveThatTakesTooLong(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a"), open(2, "a"))
	w.settle()
	w.apply(Command{Type: UpdateSession, Session: 1, Kinds: []string{"a"}, Draining: true})
	w.apply(w.tick(0)...)
	w.tick(0)
	for range 30 {
		w.now += time.Second
		w.apply(Command{Type: RenewSession, Session: 1}, Command{Type: RenewSession, Session: 2})
		w.expect(w.tick(0))
	}
	w.expect(w.tick(time.Millisecond), "abort", "abort")
}

// TestKindsAreSplit: kinds with other hosts than the rest of their group get a group of their own, with the owners they had, once that
// is settled; then they move.
func TestKindsAreSplit(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a", "b"), open(2, "a", "b"))
	w.settle()
	if g := w.table.Groups(); len(g) != 1 || !slices.Equal(g[0].Kinds, []string{"a", "b"}) {
		t.Fatalf("groups %v", g)
	}
	before := w.table.Groups()[0].Slots
	w.apply(Command{Type: UpdateSession, Session: 2, Kinds: []string{"a"}})
	w.expect(w.tick(0))
	w.expect(w.tick(Settle - time.Millisecond))
	split := w.tick(time.Millisecond)
	w.expect(split, "group [b]")
	w.apply(split...)
	g, _ := w.table.GroupOf("b")
	if g.Slots != before {
		t.Error("the split has changed owners")
	}
	w.expect(w.tick(0), "move 32 from 2 to 1", "move 32 from 2 to 1")
}

// TestANewRunWaitsForTheOld: of two runs of a node the newer is given what is free; what the older has waits for its end.
func TestANewRunWaitsForTheOld(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a"))
	w.settle()
	again := open(1, "a")
	again.Boot = 77
	id := SessionID(w.apply(again)[0].ID)
	w.expect(w.tick(Settle))
	w.apply(Command{Type: RenewSession, Session: id})
	w.expect(w.tick(ExpireAfter-Settle), "expire 1 @1")
	w.apply(Command{Type: ExpireSession, Session: 1, Index: 1})
	w.expect(w.tick(0), fmt.Sprintf("assign 1024 to %d", id))
}

// TestStrandedGoesFirst: what its owner hosts no more cannot be served where it is; it waits for nothing, and for no other group's moves.
func TestStrandedGoesFirst(t *testing.T) {
	w := newChairWorld(t, NewTable())
	w.lead()
	w.apply(open(1, "a"), open(2, "a"), Command{Type: OpenSession, Node: "n3", Boot: 3, Authority: "h3:1", Kinds: []string{"b"}})
	w.settle()
	w.apply(Command{Type: UpdateSession, Session: 2, Kinds: []string{"a", "b"}}, Command{Type: UpdateSession, Session: 3, Kinds: []string{"a"}})
	w.expect(w.tick(0), "move 32 from 3 to 2", "move 32 from 3 to 2")
}
