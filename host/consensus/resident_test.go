package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// exchange is the network between residents and the offices of a chamber.
type exchange struct {
	c *chamber

	mu    sync.Mutex
	down  map[core.NodeID]bool // do not answer, and are not heard
	loses int                  // so many answers to proposals are lost
	asked map[core.NodeID]int
	delay time.Duration
}

func newExchange(c *chamber) *exchange {
	return &exchange{c: c, down: make(map[core.NodeID]bool), asked: make(map[core.NodeID]int), delay: time.Millisecond}
}

func (x *exchange) set(down bool, ids ...core.NodeID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range ids {
		x.down[id] = down
	}
}

// phone is the exchange as one node has it.
type phone struct {
	x    *exchange
	self core.NodeID
}

func (p phone) Ask(ctx context.Context, node core.Member, service string, payload []byte) ([]byte, error) {
	p.x.mu.Lock()
	down := p.x.down[node.ID] || p.x.down[p.self]
	p.x.asked[node.ID]++
	delay := p.x.delay
	p.x.mu.Unlock()
	if down {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(delay)
	b, err := p.x.c.seats[node.ID].office.Services()[service](ctx, p.self, payload)
	p.x.mu.Lock()
	lost := service == proposeService && p.x.loses > 0
	if lost {
		p.x.loses--
	}
	p.x.mu.Unlock()
	if lost {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b, err
}

// lodger is the runtime and the mover of a resident, and writes down what it is told.
type lodger struct {
	t  *testing.T
	id core.NodeID

	mu       sync.Mutex
	until    time.Time
	session  core.SessionID
	assigned *core.Assignments
	heard    uint64 // index of the log
	told     []string
	held     map[core.MoveID]bool
	tookIn   map[core.MoveID]abi.Epoch
	turned   map[core.MoveID]int
	hand     func(ctx context.Context, part core.Part, target core.Member) ([]byte, error)
	failed   []error
}

func (l *lodger) HandleSession(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = until
}

func (l *lodger) HandleAssigned(a *core.Assignments, session core.SessionID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.assigned != nil && a.Generation == l.assigned.Generation && a.Index < l.assigned.Index {
		l.t.Errorf("%s: the assignments went back from %d to %d", l.id, l.assigned.Index, a.Index)
	}
	l.assigned, l.session = a, session
	l.told = append(l.told, fmt.Sprint("assigned ", session))
}

func (l *lodger) HandleHeard(generation uint32, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.assigned == nil || generation != l.assigned.Generation || index < l.assigned.Index || index < l.heard {
		l.t.Errorf("%s: it has heard up to %d of generation %d, after %d, and knows %+v", l.id, index, generation, l.heard, l.assigned)
	}
	l.heard = index
}

func (l *lodger) HandleHold(p core.Part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[p.Move] = true
	l.told = append(l.told, fmt.Sprint("hold ", p.Move))
}

func (l *lodger) HandleUnhold(m core.MoveID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, m)
	l.told = append(l.told, fmt.Sprint("unhold ", m))
}

func (l *lodger) HandOver(ctx context.Context, part core.Part, target core.Member) ([]byte, error) {
	l.mu.Lock()
	hand := l.hand
	l.mu.Unlock()
	if hand != nil {
		return hand(ctx, part, target)
	}
	time.Sleep(10 * time.Millisecond)
	return []byte{byte(part.Move)}, nil
}

func (l *lodger) TakeIn(part core.Part, epoch abi.Epoch, manifest []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(manifest, []byte{byte(part.Move)}) {
		l.t.Errorf("%s: move %d brings %x", l.id, part.Move, manifest)
	}
	if _, twice := l.tookIn[part.Move]; twice {
		l.t.Errorf("%s: move %d was taken in twice", l.id, part.Move)
	}
	for p := range part.Partitions.All { // before the assignment that makes it count
		if slot, ok := l.assigned.Slot(part.Kinds[0], p); ok && slot.Owner == l.session {
			l.t.Errorf("%s: partition %d was its own before what came with it was taken in", l.id, p)
			break
		}
	}
	l.tookIn[part.Move] = epoch
	return nil
}

func (l *lodger) TurnAway(m core.MoveID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turned[m]++
}

func (l *lodger) may() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != 0 && time.Now().Before(l.until)
}

func (l *lodger) owns(kind string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.assigned == nil || l.session == 0 {
		return 0
	}
	for p := range core.Partition(core.Partitions) {
		if slot, ok := l.assigned.Slot(kind, p); ok && slot.Owner == l.session {
			n++
		}
	}
	return n
}

// What the tests ask of it.

func (l *lodger) parts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

func (l *lodger) faults() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

func (l *lodger) under() core.SessionID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

func (l *lodger) end() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// slot is who owns the first partition.
func (l *lodger) slot() core.Slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot, _ := l.assigned.Slot("kind", 0)
	return slot
}

// household is a resident with its lodger, running.
type household struct {
	*Resident
	*lodger
	stop func()
}

// settle starts the resident of a node that asks the voters of c.
func (x *exchange) settle(t *testing.T, id core.NodeID, kinds ...string) *household {
	l := &lodger{t: t, id: id, held: make(map[core.MoveID]bool), tookIn: make(map[core.MoveID]abi.Epoch), turned: make(map[core.MoveID]int)}
	var office *Office
	if s := x.c.seats[id]; s != nil {
		office = s.office
	}
	r := NewResident(ResidentConfig{Self: core.Member{ID: id, Authority: string(id) + ":1", Boot: 7}, Weight: 1, Kinds: kinds, Network: phone{x, id}, Office: office,
		Voters: func() (all []core.Member) {
			for v := range x.c.seats {
				all = append(all, core.Member{ID: v, Authority: string(v) + ":1"})
			}
			slices.SortFunc(all, func(a, b core.Member) int { return compareText(string(a.ID), string(b.ID)) })
			return all
		},
		Runtime: l, Mover: l, Fail: func(err error) { l.mu.Lock(); l.failed = append(l.failed, err); l.mu.Unlock() }, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	h := &household{r, l, sync.OnceFunc(func() { cancel(); <-ended })}
	t.Cleanup(h.stop)
	return h
}

func compareText(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// await waits for what is to become of it; the limit is of the bubble's clock.
func await(t *testing.T, what string, most time.Duration, ok func() bool) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		synctest.Wait()
		if ok() {
			return time.Since(began)
		}
		if time.Since(began) > most {
			t.Fatalf("%s: not within %s", what, most)
		}
	}
}

func TestResidentKeepsASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1", "v2", "v3")
		c.run(t)
		c.lead("v2")
		x := newExchange(c)
		h := x.settle(t, "n1", "kind")
		await(t, "a session and what it owns", 3*time.Second, func() bool { return h.may() && h.owns("kind") == core.Partitions })
		session := h.under()
		for range 600 { // a minute
			time.Sleep(100 * time.Millisecond)
			if !h.may() || h.under() != session {
				t.Fatalf("after %s: session %d until %s", time.Since(h.base), h.under(), h.end())
			}
			if left := time.Until(h.end()); left > core.SessionTime {
				t.Fatalf("the session lasts for another %s", left)
			}
		}
		there := c.seats["v2"].index()
		time.Sleep(feedTime + 20*time.Millisecond)
		synctest.Wait()
		h.lodger.mu.Lock()
		heard := h.lodger.heard
		h.lodger.mu.Unlock()
		if there < 100 || heard < there {
			t.Errorf("the log was at %d, and the node has heard up to %d", there, heard)
		}
		s, _ := h.Standing()
		if s.Leader != "v2" || s.Owned != core.Partitions || s.Session != session {
			t.Errorf("%+v", s)
		}
	})
}

// Answers that are lost cost nothing, as long as one in three seconds comes through.
func TestResidentLosesAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		x.loses = 3
		h := x.settle(t, "n1", "kind")
		await(t, "a session", 10*time.Second, h.may)
		first := h.under()
		for range 10 {
			x.mu.Lock()
			x.loses = 2
			x.mu.Unlock()
			for range 30 {
				time.Sleep(100 * time.Millisecond)
				if !h.may() || h.under() != first {
					t.Fatalf("session %d after %d, until %s", h.under(), first, h.end())
				}
			}
		}
	})
}

// The voters have another leader, and then one that is gone without a word: sessions live through it.
func TestResidentOutlivesLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1", "v2", "v3")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		all := []*household{x.settle(t, "n1", "kind"), x.settle(t, "n2", "kind"), x.settle(t, "v3", "kind")}
		await(t, "sessions", 5*time.Second, func() bool { return all[0].may() && all[1].may() && all[2].may() })
		for round, next := range []core.NodeID{"v2", "v3", "v1", "v2", "v1"} {
			old := c.leader
			x.set(true, old)
			c.lead("")
			time.Sleep(1200 * time.Millisecond) // an election
			c.lead(next)
			for range 40 {
				time.Sleep(100 * time.Millisecond)
				for _, h := range all {
					if !h.may() && !(h.id == old) {
						t.Fatalf("round %d: %s has no session, %s after", round, h.id, time.Since(h.end()))
					}
				}
			}
			x.set(false, old)
			await(t, "sessions again", 5*time.Second, func() bool { return all[0].may() && all[1].may() && all[2].may() })
		}
	})
}

// Cut off from all voters, the session runs out after three seconds, and everything ends once it is known that it has ended in the log.
func TestResidentIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		h, other := x.settle(t, "n1", "kind"), x.settle(t, "n2", "kind")
		await(t, "both own something", 20*time.Second, func() bool { return h.owns("kind") > 0 && other.owns("kind") > 0 && h.may() })
		first := h.under()
		x.set(true, "n1")
		ran := await(t, "it runs out", core.SessionTime, func() bool { return !h.may() })
		took := await(t, "the other has it all", 5*time.Second, func() bool { return other.owns("kind") == core.Partitions })
		t.Logf("it ran out after %s, and the other had it all %s later", ran, took)
		x.set(false, "n1")
		await(t, "another session", 5*time.Second, func() bool { return h.may() && h.under() > first })
		i := slices.Index(h.told, "assigned 0")
		if i < 0 {
			t.Errorf("it was not told that its session has ended: %v", h.told)
		}
		await(t, "its share again", 20*time.Second, func() bool { return h.owns("kind") > 0 })
	})
}

// A node whose machine was suspended gives its session up, and goes on under another, whether or not the voters have noticed.
func TestResidentWasSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		h := x.settle(t, "n1", "kind")
		await(t, "a session", 5*time.Second, func() bool { return h.owns("kind") == core.Partitions })
		first := h.slot()
		h.Suspended(t.Context())
		if synctest.Wait(); h.may() {
			t.Error("it may run on")
		}
		took := await(t, "another session", 3*time.Second, func() bool { return h.may() && h.owns("kind") == core.Partitions })
		now := h.slot()
		if now.Owner == first.Owner || !first.Epoch.Less(now.Epoch) {
			t.Errorf("%s later it owns under %+v what it owned under %+v", took, now, first)
		}
	})
}

func TestResidentBlockedAndUnblocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		h, operator := x.settle(t, "n1", "kind"), x.settle(t, "n2")
		await(t, "sessions", 5*time.Second, func() bool { return h.owns("kind") == core.Partitions && operator.may() })
		first := h.slot()
		if err := operator.Propose(t.Context(), core.Command{Type: core.BlockNode, Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		await(t, "it is out", time.Second, func() bool { return !h.may() })
		if err := operator.Propose(t.Context(), core.Command{Type: core.UnblockNode, Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		await(t, "it is in again", 5*time.Second, func() bool { return h.may() && h.owns("kind") == core.Partitions })
		if now := h.slot(); !first.Epoch.Less(now.Epoch) {
			t.Errorf("what it discarded goes on under the same epoch: %+v, %+v", first, now)
		}
		if err := operator.Propose(t.Context(), core.Command{Type: core.BlockNode, Node: "no node, this"}); abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%v", err)
		}
		if err := operator.Propose(t.Context(), core.Command{Type: core.RaiseGeneration, Generation: 5}); abi.CodeOf(err) != abi.ErrDenied {
			t.Errorf("%v", err)
		}
	})
}

// moving are two residents of which the second has joined: its share moves to it.
func moving(t *testing.T, hand func(ctx context.Context, part core.Part, target core.Member) ([]byte, error)) (x *exchange, from, to *household) {
	c := newChamber(5*time.Millisecond, "v1")
	c.run(t)
	c.lead("v1")
	x = newExchange(c)
	from = x.settle(t, "n1", "kind")
	from.lodger.mu.Lock()
	from.lodger.hand = hand
	from.lodger.mu.Unlock()
	await(t, "the first owns all", 5*time.Second, func() bool { return from.owns("kind") == core.Partitions })
	to = x.settle(t, "n2", "kind")
	return x, from, to
}

func TestResidentHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		_, from, to := moving(t, func(ctx context.Context, part core.Part, target core.Member) ([]byte, error) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			defer func() { mu.Lock(); running--; mu.Unlock() }()
			if target.ID != "n2" || part.Partitions.Len() > core.MovePartitions {
				t.Errorf("%d partitions go to %s", part.Partitions.Len(), target.ID)
			}
			time.Sleep(50 * time.Millisecond)
			return []byte{byte(part.Move)}, nil
		})
		await(t, "the shares", time.Minute, func() bool {
			return from.owns("kind")+to.owns("kind") == core.Partitions && to.owns("kind") > core.Partitions/3 && from.parts() == 0
		})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := to.owns("kind"); n > core.Partitions*2/3 || from.owns("kind")+n != core.Partitions {
			t.Errorf("%d and %d partitions", from.owns("kind"), n)
		}
		if most > core.MovesAtOnce {
			t.Errorf("%d moves at once", most)
		}
		if len(to.tookIn) == 0 || len(to.turned) != 0 || from.parts() != 0 {
			t.Errorf("taken in: %v, turned away: %v, held: %v", to.tookIn, to.turned, from.held)
		}
		for move, epoch := range to.tookIn {
			if epoch.Index == 0 {
				t.Errorf("move %d under %v", move, epoch)
			}
		}
		if s, _ := to.Standing(); s.Moving != 0 || len(s.Expected) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestResidentFailsToHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tries := 0
		_, from, to := moving(t, func(context.Context, core.Part, core.Member) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			tries++
			return nil, errors.New("no")
		})
		await(t, "some tries", time.Minute, func() bool { mu.Lock(); defer mu.Unlock(); return tries >= 4 })
		time.Sleep(time.Second)
		synctest.Wait()
		if from.owns("kind") != core.Partitions || to.owns("kind") != 0 || from.parts() != 0 || len(to.tookIn) != 0 {
			t.Errorf("%d and %d partitions, held %v, taken in %v", from.owns("kind"), to.owns("kind"), from.held, to.tookIn)
		}
		if len(to.turned) == 0 {
			t.Error("the target was not told to turn away what had come")
		}
		mu.Lock()
		before := tries
		mu.Unlock()
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if n := tries - before; n > 2*core.MovesAtOnce+2 {
			t.Errorf("%d tries in ten seconds", n)
		}
	})
}

// The target is lost while a move to it is under way: the source goes on.
func TestResidentLosesItsTarget(t *testing.T) {
	for _, after := range []bool{false, true} { // all was handed over, but for the log
		t.Run(fmt.Sprint("handed over ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := make(chan struct{}, 100)
				var x *exchange
				x, from, to := moving(t, func(ctx context.Context, part core.Part, target core.Member) ([]byte, error) {
					began <- struct{}{}
					if !after {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					time.Sleep(2 * time.Second)
					return []byte{byte(part.Move)}, nil
				})
				<-began
				to.stop()
				x.set(true, "n2")
				if after {
					time.Sleep(time.Second)
				}
				await(t, "the source has it all", 20*time.Second, func() bool { return from.owns("kind") == core.Partitions && from.parts() == 0 })
				first := from.slot()
				time.Sleep(10 * time.Second)
				if n := from.owns("kind"); n != core.Partitions || from.parts() != 0 || !from.may() {
					t.Errorf("%d partitions, %d parts held; %+v", n, from.parts(), first)
				}
			})
		})
	}
}

// A target that is slow to tell is not waited for beyond the time of a move.
func TestResidentGivesAMoveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ends []time.Duration
		_, from, _ := moving(t, func(ctx context.Context, part core.Part, target core.Member) ([]byte, error) {
			began := time.Now()
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, time.Since(began))
			return nil, ctx.Err()
		})
		await(t, "a move's end", time.Minute, func() bool { mu.Lock(); defer mu.Unlock(); return len(ends) >= core.MovesAtOnce })
		for _, d := range ends {
			if d > core.MoveTimeout+time.Second {
				t.Errorf("a move was given up after %s", d)
			}
		}
		await(t, "nothing is held", time.Second, func() bool { return from.parts() == 0 })
		if from.owns("kind") != core.Partitions {
			t.Errorf("%d partitions", from.owns("kind"))
		}
	})
}

func TestResidentDrainsAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, from, to := moving(t, nil)
		await(t, "the second has its share", time.Minute, func() bool { return to.owns("kind") > core.Partitions/3 })
		to.SetHosts([]string{"kind"}, 1, true)
		await(t, "it has given all away", time.Minute, func() bool { return to.owns("kind") == 0 && from.owns("kind") == core.Partitions })
		if s, _ := to.Standing(); !s.Draining {
			t.Errorf("%+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := to.Close(ctx, false); err != nil {
			t.Fatal(err)
		}
		if to.may() {
			t.Error("it may run on")
		}
		time.Sleep(10 * time.Second) // it does not ask for another one
		synctest.Wait()
		if s, _ := to.Standing(); s.Session != 0 || !s.Closed {
			t.Errorf("%+v", s)
		}
	})
}

// Closed by force it is gone at once, though nobody took over, and nothing passes a check while the log is told.
func TestResidentClosesByForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(500*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		h := x.settle(t, "n1", "kind")
		await(t, "it owns all", 10*time.Second, func() bool { return h.owns("kind") == core.Partitions && h.may() })
		x.mu.Lock()
		x.loses = 2
		x.mu.Unlock()
		closed := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			closed <- h.Close(ctx, true)
		}()
		synctest.Wait()
		for {
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
				if s, _ := h.Standing(); !s.Closed {
					t.Errorf("%+v", s)
				}
				return
			default:
			}
			if h.may() {
				t.Fatal("a turn may run on")
			}
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
		}
	})
}

// Without any voter there is nothing, and the end of Run ends everything.
func TestResidentWithoutVoters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		x := newExchange(c)
		x.set(true, "v1")
		h := x.settle(t, "n1", "kind")
		time.Sleep(20 * time.Second)
		if h.may() {
			t.Error("it may run")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Propose(ctx, core.Command{Type: core.BlockNode, Node: "n7"}); err == nil {
			t.Error("a proposal went somewhere")
		}
		h.stop()
		if err := h.Await(t.Context(), func(Standing) bool { return false }); err == nil {
			t.Error("it waits for nothing")
		}
		if err := h.Close(t.Context(), true); err == nil {
			t.Error("it closed what was over")
		}
		h.Suspended(t.Context())
		h.SetHosts(nil, 1, false)
	})
}

// What an operator asks for ends with the node's part in the cluster, and nothing is begun after it.
func TestResidentEndsAProposal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		x := newExchange(c)
		x.set(true, "v1")
		h := x.settle(t, "n1", "kind")
		block := core.Command{Type: core.BlockNode, Node: "n7"}
		asking, giveUp := context.WithCancel(context.Background())
		defer giveUp()
		told := make(chan error, 1)
		go func() { told <- h.Propose(asking, block) }()
		time.Sleep(10 * time.Second)
		h.stop()
		synctest.Wait()
		select {
		case err := <-told:
			if err == nil {
				t.Error("a proposal went somewhere")
			}
		default:
			t.Error("the proposal goes on")
		}
		x.mu.Lock()
		before := x.asked["v1"]
		x.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Propose(ctx, block); err == nil || ctx.Err() != nil {
			t.Errorf("%v", err)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.asked["v1"] != before {
			t.Error("a voter was asked")
		}
	})
}

// A node that never had a session has given it up as soon as none can come any more: it is not waited for until nobody wants to wait.
func TestResidentClosesWithoutASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		x := newExchange(c)
		x.set(true, "v1")
		h := x.settle(t, "n1", "kind")
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := h.Close(ctx, true); err != nil {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// Voters may name a node that led them in an earlier run, and is no voter in this one.
func TestResidentIsTakenForTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1", "v2")
		c.run(t)
		c.lead("n1")
		x := newExchange(c)
		h := x.settle(t, "n1", "kind")
		time.Sleep(time.Second)
		c.lead("v2")
		await(t, "it has a session", 10*time.Second, h.may)
	})
}

// A voter that is not replicated to any more tells nothing new, and nobody goes back because of it.
func TestResidentFollowsFromOneVoterAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1", "v2", "v3")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		h := x.settle(t, "n1", "kind")
		await(t, "it owns all", 5*time.Second, func() bool { return h.owns("kind") == core.Partitions })
		c.mu.Lock()
		c.seats["v3"].deaf = true
		c.mu.Unlock()
		for i := range 20 { // entries that v3 does not get
			c.seats["v1"].put(t, core.NodeID(fmt.Sprint("m", i)), opening(core.NodeID(fmt.Sprint("m", i)), "kind"))
			time.Sleep(50 * time.Millisecond)
		}
		s, _ := h.Standing()
		x.set(true, "v1", "v2") // v3 alone is left
		time.Sleep(2 * time.Second)
		if now, _ := h.Standing(); now.Index < s.Index {
			t.Errorf("it went back from %d to %d", s.Index, now.Index)
		}
		c.hear("v3")
		c.lead("v3")
		await(t, "it goes on with v3", 5*time.Second, func() bool { now, _ := h.Standing(); return now.Index > s.Index && h.may() })
	})
}

// An entry of a newer version ends the node; its table is not touched.
func TestResidentGetsAnEntryOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(5*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		x := newExchange(c)
		h := x.settle(t, "n1", "kind")
		await(t, "it owns all", 5*time.Second, func() bool { return h.owns("kind") == core.Partitions })
		l := c.seats["v1"].log
		future := abi.AppendUint(abi.AppendArray(nil, 1), core.EntryVersion+1)
		c.mu.Lock()
		c.index++
		index := c.index
		l.mu.Lock()
		l.keep(record{index, future}) // as a voter that knows it would send it
		l.tell()
		l.mu.Unlock()
		c.mu.Unlock()
		await(t, "it fails", 2*time.Second, func() bool { return len(h.faults()) > 0 })
		if err := h.faults()[0]; !errors.Is(err, core.ErrEntryVersion) {
			t.Errorf("%v", err)
		} else {
			t.Log(err)
		}
		c.seats["v1"].put(t, "n2", opening("n2", "kind"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s, _ := h.Standing(); s.Index > index {
			t.Errorf("it went on to entry %d without entry %d", s.Index, index)
		}
	})
}

// A voter to which an entry of the future is replicated stops, and tells nobody a table that lacks it.
func TestLogIsPoisoned(t *testing.T) {
	l := NewLog(nil, slog.New(slog.DiscardHandler))
	l.Apply(1, core.AppendEntry(nil, opening("n1", "kind")))
	results := must(core.ReadResults(l.Apply(2, abi.AppendUint(abi.AppendArray(nil, 1), core.EntryVersion+1))))
	if len(results) != 1 || results[0].Void == "" {
		t.Errorf("%+v", results)
	}
	select {
	case err := <-l.Poisoned():
		if !errors.Is(err, core.ErrEntryVersion) {
			t.Error(err)
		}
	default:
		t.Error("nobody is told")
	}
	l.Apply(3, core.AppendEntry(nil, opening("n2", "kind")))
	if a, _ := l.read(question{generation: 1, after: 1}); len(a.records) > 0 || a.page != nil || a.index > 1 {
		t.Errorf("a follower is told of %+v, up to entry %d, and would never hear of the entry before", a.records, a.index)
	}
	if a, _ := l.read(question{}); a.page != nil {
		t.Error("a follower is told a table that lacks the entry")
	}
	if l.Snapshot() != nil {
		t.Error("a table that lacks the entry goes to the disk, and then the log may be cut behind it")
	}
	if r := l.Apply(4, core.AppendEntry(nil, core.Command{Type: core.RenewSession, Session: 1})); r != nil {
		t.Errorf("a renewal is answered with %x by a table that may be wrong", r)
	}
}

// TestFollowersGetWhatTookEffect: an expiry that a renewal has made void must not reach followers, who do not get the renewal: in their
// tables it would have its effect.
func TestFollowersGetWhatTookEffect(t *testing.T) {
	l := NewLog(nil, slog.New(slog.DiscardHandler))
	id := core.SessionID(must(core.ReadResults(l.Apply(1, core.AppendEntry(nil, opening("n1", "kind")))))[0].ID)
	l.Apply(2, core.AppendEntry(nil, core.Command{Type: core.RenewSession, Session: id}))
	l.Apply(3, core.AppendEntry(nil, core.Command{Type: core.ExpireSession, Session: id, Index: 1}, opening("n2", "kind")))
	a, _ := l.read(question{generation: 1})
	if len(a.records) != 2 {
		t.Fatalf("%d records", len(a.records))
	}
	follower := core.NewTable()
	for _, r := range a.records {
		if _, err := follower.Apply(r.index, r.entry); err != nil {
			t.Fatal(err)
		}
	}
	if len(follower.Sessions()) != 2 {
		t.Errorf("the follower has %d sessions, the voters have two", len(follower.Sessions()))
	}
}

func (s *seat) index() uint64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.table.Index()
}
