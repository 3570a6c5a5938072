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

// chamber is voters that always agree: what is proposed through the one that leads is applied by all of them, in one order, some time later.
type chamber struct {
	mu      sync.Mutex
	index   uint64
	term    uint64
	leader  core.NodeID // "" none
	seats   map[core.NodeID]*seat
	delay   time.Duration // of a proposal
	entries [][]byte
	lose    int // answers to proposals, which are in the log all the same
}

// seat is one voter of a chamber: the proposer of an office.
type seat struct {
	c        *chamber
	id       core.NodeID
	log      *Log
	office   *Office
	deaf     bool // it is not replicated to
	behind   [][]byte
	changed  chan struct{}
	barriers int
	refuse   error // of a barrier
}

func newChamber(delay time.Duration, ids ...core.NodeID) *chamber {
	c := &chamber{seats: make(map[core.NodeID]*seat), delay: delay}
	for _, id := range ids {
		l := NewLog(nil, slog.New(slog.DiscardHandler))
		c.seats[id] = &seat{c: c, id: id, log: l, office: NewOffice(l, slog.New(slog.DiscardHandler)), changed: make(chan struct{})}
	}
	return c
}

// run works all offices until the test ends.
func (c *chamber) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, s := range c.seats {
		work.Go(func() { s.office.Run(ctx, s) })
	}
	t.Cleanup(func() { cancel(); work.Wait() })
}

// lead gives the leadership to a seat, "" to none.
func (c *chamber) lead(id core.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = id
	c.term++
	for _, s := range c.seats {
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func (c *chamber) apply(entry []byte) (results []byte) {
	c.index++
	c.entries = append(c.entries, entry)
	for id, s := range c.seats {
		if s.deaf {
			s.behind = append(s.behind, entry)
			continue
		}
		s.catchUp(c.index - 1)
		out := s.log.Apply(c.index, entry)
		if id == c.leader {
			results = out
		}
	}
	return results
}

// count returns how many entries there are.
func (c *chamber) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

func (s *seat) catchUp(to uint64) {
	for i, e := range s.behind {
		s.log.Apply(to-uint64(len(s.behind)-1-i), e)
	}
	s.behind = nil
}

// hear has a seat be replicated to again.
func (c *chamber) hear(id core.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats[id].deaf = false
	c.seats[id].catchUp(c.index)
}

func (s *seat) Propose(ctx context.Context, entry []byte) ([]byte, uint64, error) {
	if s.c.delay > 0 {
		select {
		case <-time.After(s.c.delay):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.leader != s.id {
		return nil, 0, ErrNotLeader
	}
	results := s.c.apply(entry)
	if s.c.lose > 0 {
		s.c.lose--
		return nil, 0, errors.New("lost")
	}
	return results, s.c.index, nil
}

func (s *seat) Barrier(ctx context.Context) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.barriers++
	if s.refuse != nil {
		return s.refuse
	}
	if s.c.leader != s.id {
		return ErrNotLeader
	}
	return nil
}

func (s *seat) Leadership() (Leadership, <-chan struct{}) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	l := Leadership{Term: s.c.term, Leader: s.c.leader, Leading: s.c.leader == s.id}
	if l.Leader != "" {
		l.Authority = string(l.Leader) + ":1"
	}
	return l, s.changed
}

// opening is a session that a node asks for.
func opening(node core.NodeID, kinds ...string) core.Command {
	return core.Command{Type: core.OpenSession, Node: node, Boot: 1, Authority: string(node) + ":1", Kinds: kinds, Speaks: core.EntryVersion}
}

// put submits commands of a node and returns their results.
func (s *seat) put(t *testing.T, node core.NodeID, commands ...core.Command) []core.Result {
	t.Helper()
	out, err := s.office.submit(t.Context(), node, core.AppendEntry(nil, commands...))
	if err != nil || !out.led {
		t.Fatalf("%s: %+v, %v", commands[0].Type, out, err)
	}
	return must(core.ReadResults(out.results))
}

func TestOfficeBatchesRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(10*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		const nodes = 200
		var sessions [nodes]core.SessionID
		var wg sync.WaitGroup
		for i := range nodes {
			wg.Go(func() {
				node := core.NodeID(fmt.Sprint("n", i))
				sessions[i] = core.SessionID(c.seats["v1"].put(t, node, opening(node))[0].ID)
			})
		}
		wg.Wait()
		before := c.count()
		for i := range nodes {
			wg.Go(func() {
				res := c.seats["v1"].put(t, core.NodeID(fmt.Sprint("n", i)), core.Command{Type: core.RenewSession, Session: sessions[i]})
				if len(res) != 1 || res[0].Void != "" {
					t.Errorf("renewal of %d: %+v", i, res)
				}
			})
		}
		wg.Wait()
		// The first goes alone, and while it is on its way the others gather.
		if n := c.count() - before; n > 3 {
			t.Errorf("%d renewals made %d entries", nodes, n)
		}
		seen := make(map[core.SessionID]bool)
		for _, id := range sessions {
			if id == 0 || seen[id] {
				t.Fatalf("sessions %v", sessions)
			}
			seen[id] = true
		}
	})
}

func TestOfficeThatDoesNotLeadSaysWhoDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1", "v2")
		c.run(t)
		c.lead("v1")
		ask := func() outcome {
			out, err := c.seats["v2"].office.submit(t.Context(), "n1", core.AppendEntry(nil, opening("n1")))
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if out := ask(); out.led || out.leader != (core.Member{ID: "v1", Authority: "v1:1"}) {
			t.Errorf("%+v", out)
		}
		c.lead("")
		if out := ask(); out.led || out.leader.ID != "" {
			t.Errorf("without a leader: %+v", out)
		}
	})
}

// Who has given up before its commands were in an entry has asked for nothing: what it asks for next, which may be the contrary, is not undone.
func TestOfficeForgetsWhoHasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(10*time.Millisecond, "v1")
		c.run(t)
		c.lead("v1")
		seat := c.seats["v1"]
		go seat.office.submit(t.Context(), "n1", core.AppendEntry(nil, opening("n1"))) // on its way while the next ones wait
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		given := make(chan error, 1)
		go func() {
			_, err := seat.office.submit(ctx, "n2", core.AppendEntry(nil, opening("n2")))
			given <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if got := seat.put(t, "n3", opening("n3")); len(got) != 1 || got[0].ID != 2 {
			t.Errorf("the second session is %+v", got)
		}
	})
}

// The leadership is lost while a proposal is under way: it is not known what became of it, and nobody waits longer than for that.
func TestOfficeLosesTheLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(100*time.Millisecond, "v1", "v2")
		c.run(t)
		c.lead("v1")
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				node := core.NodeID(fmt.Sprint("n", i))
				began := time.Now()
				out, err := c.seats["v1"].office.submit(t.Context(), node, core.AppendEntry(nil, opening(node)))
				switch {
				case err != nil && abi.CodeOf(err) == abi.ErrOutcomeUnknown:
				case err == nil && !out.led && out.leader.ID == "v2":
				default:
					t.Errorf("%+v, %v", out, err)
				}
				if d := time.Since(began); d > proposeTime {
					t.Errorf("after %s", d)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		c.lead("v2")
		wg.Wait()
		if n := c.count(); n != 0 {
			t.Errorf("%d entries", n)
		}
	})
}

func TestOfficeEndsWhileItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(time.Hour, "v1")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); c.seats["v1"].office.Run(ctx, c.seats["v1"]) }()
		c.lead("v1")
		answered := make(chan error, 2)
		for _, n := range []core.NodeID{"n1", "n2"} {
			go func() {
				_, err := c.seats["v1"].office.submit(context.Background(), n, core.AppendEntry(nil, opening(n)))
				answered <- err
			}()
		}
		synctest.Wait()
		cancel()
		<-ended
		for range 2 {
			if err := <-answered; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
				t.Errorf("%v", err)
			}
		}
		bounded, off := context.WithTimeout(t.Context(), time.Second) // nobody works there any more
		defer off()
		if _, err := c.seats["v1"].office.submit(bounded, "n1", core.AppendEntry(nil, opening("n1"))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A barrier that fails is tried again, but not in a circle without a pause; before it is through nothing is decided.
func TestOfficeCommitsItsBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		s := c.seats["v1"]
		s.refuse = errors.New("not yet")
		c.run(t)
		c.lead("v1")
		s.put(t, "n1", opening("n1", "kind"))
		time.Sleep(time.Second)
		synctest.Wait()
		c.mu.Lock()
		tries, entries := s.barriers, len(c.entries)
		s.refuse = nil
		c.mu.Unlock()
		if tries < 5 || tries > 40 {
			t.Errorf("the barrier was tried %d times in a second", tries)
		}
		if entries != 1 {
			t.Errorf("%d entries before the barrier", entries)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if slot, ok := s.log.table.Assignments().Slot("kind", 0); !ok || slot.Owner == 0 {
			t.Errorf("nobody owns the partitions: %+v, %v", slot, ok)
		}
	})
}

// Nodes speak for themselves; what they must not say is denied, and nothing of it is in the log.
func TestOfficeDeniesWhatIsNotANodesToSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		c.lead("v1")
		s := c.seats["v1"]
		one := core.SessionID(s.put(t, "n1", opening("n1", "kind"))[0].ID)
		s.put(t, "n2", opening("n2"))
		time.Sleep(5 * time.Second / 2) // nothing is to be decided any more
		synctest.Wait()
		c.mu.Lock()
		before := len(c.entries)
		c.mu.Unlock()
		for _, cmd := range []core.Command{
			opening("n1"),
			{Type: core.CloseSession, Session: one + 10}, // that another will have
			{Type: core.RenewSession},
			{Type: core.RenewSession, Session: one},
			{Type: core.CloseSession, Session: one},
			{Type: core.UpdateSession, Session: one, Kinds: []string{"kind"}},
			{Type: core.Release, Session: one, Group: 1, Index: 100},
			{Type: core.ExpireSession, Session: one, Index: 1 << 40},
			{Type: core.Assign, Session: one, Group: 1},
			{Type: core.BeginMove, Session: one, Group: 1},
			{Type: core.Regroup, Kinds: []string{"kind"}},
			{Type: core.RaiseGeneration, Generation: 7},
		} {
			_, err := s.office.submit(t.Context(), "n2", core.AppendEntry(nil, cmd))
			if abi.CodeOf(err) != abi.ErrDenied {
				t.Errorf("%s: %v", cmd.Type, err)
			}
			// Not even beside something that is allowed.
			_, err = s.office.submit(t.Context(), "n2", core.AppendEntry(nil, opening("n2"), cmd))
			if abi.CodeOf(err) != abi.ErrDenied {
				t.Errorf("%s in company: %v", cmd.Type, err)
			}
		}
		for _, garbage := range [][]byte{nil, {0xff}, {0x80}, []byte("hello"), abi.AppendUint(abi.AppendArray(nil, 1), core.EntryVersion+1),
			append(core.AppendEntry(nil, opening("n2")), 0)} {
			if _, err := s.office.submit(t.Context(), "n2", garbage); abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Errorf("%x: %v", garbage, err)
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.entries) - before; n != 0 {
			t.Errorf("%d entries came of it", n)
		}
	})
}

// Who proposes nothing at all gets no results.
func TestOfficeTakesAnEmptyProposal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		c.lead("v1")
		if res := c.seats["v1"].put2(t, "n1"); len(res) != 0 {
			t.Errorf("%+v", res)
		}
	})
}

func (s *seat) put2(t *testing.T, node core.NodeID) []core.Result {
	out, err := s.office.submit(t.Context(), node, core.AppendEntry(nil))
	if err != nil {
		t.Fatal(err)
	}
	return must(core.ReadResults(out.results))
}

// The chair ends a session that is not renewed, after its time, and not before.
func TestOfficeExpiresTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		c.lead("v1")
		s := c.seats["v1"]
		time.Sleep(2 * time.Second)
		id := core.SessionID(s.put(t, "n1", opening("n1"))[0].ID)
		began := time.Now()
		for {
			s.log.mu.Lock()
			_, there := s.log.table.Session(id)
			s.log.mu.Unlock()
			if !there {
				break
			}
			time.Sleep(10 * time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatal("never")
			}
		}
		if d := time.Since(began); d < core.ExpireAfter || d > core.ExpireAfter+200*time.Millisecond {
			t.Errorf("it ended after %s", d)
		}
		if res := s.put(t, "n1", core.Command{Type: core.RenewSession, Session: id}); res[0].Void == "" {
			t.Errorf("it was renewed after its end")
		}
	})
}

// The services read what comes from other nodes and know who says it.
func TestOfficeServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(0, "v1")
		c.run(t)
		c.lead("v1")
		services := c.seats["v1"].office.Services()
		for name, f := range services {
			for _, garbage := range [][]byte{nil, {0x01}, {0x85, 0x02, 0, 0, 0, 0}, {0x82, 0x09, 0x40}} {
				if _, err := f(t.Context(), "n1", garbage); abi.CodeOf(err) != abi.ErrInvalidArgument {
					t.Errorf("%s of %x: %v", name, garbage, err)
				}
			}
		}
		b, err := services[proposeService](t.Context(), "n2", appendProposal(nil, core.AppendEntry(nil, opening("n1"))))
		if abi.CodeOf(err) != abi.ErrDenied {
			t.Errorf("%x, %v", b, err)
		}
		b, err = services[proposeService](t.Context(), "n1", appendProposal(nil, core.AppendEntry(nil, opening("n1", "kind"))))
		if out := must(readOutcome(b)); err != nil || !out.led {
			t.Errorf("%+v, %v", out, err)
		}
		time.Sleep(time.Second)
		b, err = services[feedService](t.Context(), "n9", (&question{}).append(nil))
		if a := must(readAnswer(b)); err != nil || a.leader.ID != "v1" || !slices.Equal(a.page, c.seats["v1"].log.Snapshot()) {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
