package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

var abc = []core.NodeID{"a", "b", "c"}

func TestThreeVoters(t *testing.T) {
	w := newWorld(t, newLoopback(), abc...)
	w.start(calm, abc...)
	for i := range 20 {
		if got := w.propose(fmt.Sprint(i)); got != fmt.Sprint(i+1) {
			t.Errorf("entry %d was answered %q", i, got)
		}
	}
	l := w.leader()
	if got, _, err := l.Propose(t.Context(), []byte{0xff}); err != nil || string(got) != "malformed" {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := l.Propose(t.Context(), make([]byte, defaultMaxEntry+1)); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	want := l.machine.all()
	for _, n := range w.sorted() {
		if got := n.machine.await(t, 20); !slices.Equal(got, want) {
			t.Errorf("%s has %v", n.id, got)
		}
		n.awaitState(Voting)
		members, index := n.Voters()
		if len(members) != 3 || index == 0 {
			t.Errorf("%s: %v %d", n.id, members, index)
		}
		for i, m := range members {
			if m.ID.Node != abc[i] || m.Authority != w.nodes[abc[i]].authority || m.ID != w.nodes[abc[i]].ID() {
				t.Errorf("%s: %+v", n.id, m)
			}
		}
		if n == l {
			continue
		}
		_, _, err := n.Propose(t.Context(), []byte("x"))
		var not *NotLeaderError
		if !errors.Is(err, ErrNotLeader) || !errors.As(err, &not) || not.Leader != l.id || not.Authority != l.authority {
			t.Errorf("%s: %v", n.id, err)
		}
		if err := n.Barrier(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Error(err)
		}
		if id, authority, known := n.Leader(); id != l.id || authority != l.authority || !known {
			t.Error(id, authority, known)
		}
	}
	s := l.Stats()
	if !s.Leading || s.State != Voting || s.Term == 0 || s.CommitIndex < 21 || s.LastIndex < s.CommitIndex || s.Voters != 3 || s.LastContact != 0 || s.Proposed < 21 {
		t.Errorf("%+v", s)
	}
}

// TestManyProposals: callers at once, each of whose entries is in the log once, in one order everywhere.
func TestManyProposals(t *testing.T) {
	w := newWorld(t, newLoopback(), abc...)
	w.start(calm, abc...)
	l := w.leader()
	var wg sync.WaitGroup
	const callers, each = 16, 20
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if _, _, err := l.Propose(t.Context(), fmt.Appendf(nil, "%d/%d", c, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := l.machine.await(t, callers*each)
	if sorted := slices.Sorted(slices.Values(want)); len(slices.Compact(sorted)) != callers*each {
		t.Errorf("%d different entries", len(slices.Compact(sorted)))
	}
	for _, n := range w.sorted() {
		if got := n.machine.await(t, callers*each); !slices.Equal(got, want) {
			t.Errorf("%s differs", n.id)
		}
	}
}

// TestLeaderIsLost: with five voters, two after another, the second before the first is back; what was acknowledged stays.
func TestLeaderIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ids := []core.NodeID{"a", "b", "c", "d", "e"}
		w.start(nil, ids...)
		w.propose("one")
		dead := []*node{w.leader()}
		before, _ := dead[0].Leadership()
		dead[0].close()
		w.propose("two")
		second := w.leader()
		if after, _ := second.Leadership(); after.Term <= before.Term {
			t.Errorf("term %d after term %d", after.Term, before.Term)
		}
		second.close()
		w.propose("three")
		dead = append(dead, second)
		for _, n := range dead { // they come back with their disks
			id := n.open(w.list(ids...)).ID()
			if got := n.machine.await(t, 3); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Errorf("%s has %v", id, got)
			}
			n.awaitState(Voting)
		}
		w.propose("four")
		for _, n := range w.sorted() {
			n.machine.await(t, 4)
		}
	}, "a", "b", "c", "d", "e")
}

// TestAllRestart: the log is on disk, and nothing else is needed.
func TestAllRestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		for i := range 5 {
			w.propose(fmt.Sprint(i))
		}
		ids := map[core.NodeID]RaftID{}
		for _, n := range w.sorted() {
			ids[n.id] = n.ID()
			n.close()
		}
		for _, n := range w.sorted() { // without the list, and with another one, which is warned about
			if n.id == "a" {
				n.open(w.list("a", "b"))
			} else {
				n.open(nil)
			}
			if n.ID() != ids[n.id] {
				t.Errorf("%s became %s", ids[n.id], n.ID())
			}
		}
		w.propose("5")
		for _, n := range w.sorted() {
			if got := n.machine.await(t, 6); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) {
				t.Errorf("%s has %v", n.id, got)
			}
		}
		if log := w.nodes["a"].log.String(); !strings.Contains(log, "--voters is not what the log says") {
			t.Error("no warning")
		}
		if log := w.nodes["b"].log.String(); strings.Contains(log, "--voters is not what the log says") {
			t.Error("a warning for no reason")
		}
	}, abc...)
}

// TestDiskIsLost: a voter without its disk has no vote, says so and what to do; after that was done it has.
func TestDiskIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		l := w.leader()
		lost, other := w.followers(l)
		old := lost.ID()
		lost.close()
		if err := os.RemoveAll(filepath.Join(lost.dir, raftDir)); err != nil {
			t.Fatal(err)
		}
		lost.open(w.list(abc...))
		lost.awaitState(NotVoter)
		if lost.ID() == old || lost.ID().Node != old.Node {
			t.Errorf("%s became %s", old, lost.ID())
		}
		if log, want := lost.log.String(), fmt.Sprintf("`wasilo voters rm %s --even` and then `wasilo voters add %s`", old, lost.id); !strings.Contains(log, want) {
			t.Errorf("the log does not say %s:\n%s", want, log)
		}
		w.propose("two")
		// Two voters are left of three, one of which is lost: with the other one gone there is no majority, whatever the lost one would say.
		other.close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		for ctx.Err() == nil {
			if _, _, err := l.Propose(ctx, []byte("minority")); err == nil {
				t.Fatal("an entry was acknowledged by one of three")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if term, _ := lost.Leadership(); term.Leader != "" || len(lost.machine.all()) != 0 {
			t.Errorf("it takes part: %+v %v", term, lost.machine.all())
		}
		other.open(nil)
		l = w.leader()
		if l == lost {
			t.Fatal("a node without a vote leads")
		}
		if _, err := l.Add(t.Context(), w.list(lost.id)[0], true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "`wasilo voters rm "+old.String()+" --even` first") {
			t.Error(err)
		}
		if _, err := l.Remove(t.Context(), string(lost.id), false); !errors.Is(err, ErrEvenVoters) || !strings.Contains(err.Error(), "--even") {
			t.Error(err)
		}
		if id, err := l.Remove(t.Context(), old.String(), true); err != nil || id != old {
			t.Fatal(id, err)
		}
		if id, err := l.Add(t.Context(), w.list(lost.id)[0], false); err != nil || id != lost.ID() {
			t.Fatal(id, err)
		}
		lost.awaitState(Voting)
		w.propose("three")
		want := w.leader().machine.all() // "minority" may be in it: its outcome was unknown
		if got := lost.machine.await(t, len(want)); !slices.Equal(got, want) || !slices.Contains(got, "one") || !slices.Contains(got, "two") {
			t.Errorf("%v, and not %v", got, want)
		}
	}, abc...)
}

// followers returns the two voters of three that do not lead.
func (w *world) followers(l *node) (*node, *node) {
	var out []*node
	for _, n := range w.sorted() {
		if n != l && n.Voter != nil {
			out = append(out, n)
		}
	}
	return out[0], out[1]
}

// TestVotersComeAndGo: from one to three, and back to two, one at a time.
func TestVotersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.nodes["a"].open(w.list("a"))
		w.propose("one")
		b, c := w.nodes["b"].open(nil), w.nodes["c"].open(nil)
		if b.State() != NotVoter || !strings.Contains(b.log.String(), "`wasilo voters add b`") {
			t.Error(b.State(), b.log)
		}
		add := func(n *node, even bool) error {
			_, err := w.leader().Add(t.Context(), w.list(n.id)[0], even)
			return err
		}
		if _, err := a.Remove(t.Context(), "a", true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the last voter") {
			t.Error(err)
		}
		if _, err := a.Remove(t.Context(), "x", true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the voters are "+a.ID().String()) {
			t.Error(err)
		}
		if err := add(b, false); !errors.Is(err, ErrEvenVoters) {
			t.Error(err)
		}
		if err := add(b, true); err != nil {
			t.Fatal(err)
		}
		if err := add(c, false); err != nil {
			t.Fatal(err)
		}
		if err := add(w.nodes["d"], true); err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "there is no voter on this node") {
			t.Error(err)
		}
		d := w.nodes["d"].open(w.list("d")) // a log of its own
		d.awaitState(Voting)
		if err := add(d, true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "has a log of other voters") {
			t.Error(err)
		}
		d.close()
		w.propose("two")
		for _, n := range []*node{a, b, c} {
			if got := n.machine.await(t, 2); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("%s has %v", n.id, got)
			}
			n.awaitState(Voting)
		}
		// A change is refused while another one runs.
		l := w.leader()
		l.changes.Lock()
		if _, err := l.Remove(t.Context(), "a", true); !errors.Is(err, ErrChangeRunning) || !strings.Contains(err.Error(), "wasilo voters list") {
			t.Error(err)
		}
		l.changes.Unlock()
		one, other := w.followers(l)
		if _, err := one.Remove(t.Context(), string(other.id), true); !errors.Is(err, ErrNotLeader) {
			t.Error(err)
		}
		// The leader goes itself, and comes back with what it has.
		if _, err := l.Remove(t.Context(), string(l.id), true); err != nil {
			t.Fatal(err)
		}
		l.awaitState(NotVoter)
		w.propose("three")
		if err := add(l, false); err != nil {
			t.Fatal(err)
		}
		l.awaitState(Voting)
		l.machine.await(t, 3)
	}, "a", "b", "c", "d")
}

// TestRemoveTheLiving: a change after which too few would be left to agree on anything, itself included, is refused.
func TestRemoveTheLiving(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disks := w.withDisks()
		l := w.leader()
		gone, living := w.followers(l)
		id := gone.ID()
		refused := func(which core.NodeID, text string) {
			t.Helper()
			_, err := l.Remove(t.Context(), string(which), true)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "of the 2 voters that there would be") || !strings.Contains(err.Error(), id.String()+text) {
				t.Error(err)
			}
		}
		gone.close()
		refused(living.id, " does not answer")
		refused(l.id, " does not answer")
		if err := os.RemoveAll(filepath.Join(gone.dir, raftDir)); err != nil {
			t.Fatal(err)
		}
		gone.open(nil)
		refused(living.id, " has lost its disk, and is "+gone.ID().String())
		w.propose("two")
		if _, err := l.Remove(t.Context(), id.String(), true); err != nil { // that one may go
			t.Fatal(err)
		}
		if _, err := l.Add(t.Context(), w.list(gone.id)[0], false); err != nil {
			t.Fatal(err)
		}
		gone.machine.await(t, 2)

		disks[living.id].entries.Store(&errFull)
		w.propose("three")
		_ = living.awaitFailure()
		id = living.ID()
		refused(gone.id, " has failed")
		living.close()
		disks[living.id].entries.Store(nil)
		living.open(nil)
		if _, err := l.Remove(t.Context(), string(gone.id), true); err != nil { // as it is back
			t.Fatal(err)
		}
		w.propose("four")
		living.machine.await(t, 4)

		// A voter is added while there are others enough with it, and not while too few are there with it.
		living.close()
		if _, err := l.Add(t.Context(), w.list(gone.id)[0], false); err != nil {
			t.Fatal(err)
		}
		d := w.add("d").open(nil)
		gone.close() // the leader has not noticed
		if _, err := l.Add(t.Context(), w.list(d.id)[0], true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "of the 4 voters that there would be") {
			t.Error(err)
		}
		gone.open(nil)
		living.open(nil)
		w.propose("five")
	}, abc...)
}

// TestRemovedWhileAway: nobody tells a voter that is not there; it finds out.
func TestRemovedWhileAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		l := w.leader()
		away, _ := w.followers(l)
		away.machine.await(t, 1)
		away.close()
		if _, err := l.Remove(t.Context(), string(away.id), true); err != nil {
			t.Fatal(err)
		}
		away.open(nil)
		away.awaitState(NotVoter)
		limit := time.After(patience)
		for !strings.Contains(away.log.String(), "this node is not a voter any more") {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-limit:
				t.Fatal(away.log)
			}
		}
		w.propose("two")
	}, abc...)
}

func TestTransfer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("one")
		l := w.leader()
		f, _ := w.followers(l)
		if err := f.Transfer(t.Context()); err != nil {
			t.Error("one that does not lead:", err)
		}
		if err := l.Transfer(t.Context()); err != nil {
			t.Fatal(err)
		}
		if next := w.leader(); next == l {
			t.Error("it leads still")
		}
		w.propose("two")
		alone := newWorld(t, newMemory(t), "x")
		alone.start(nil, "x")
		if err := alone.leader().Transfer(t.Context()); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	}, abc...)
}

// TestSnapshotForWhoLagsBehind: a voter that was away for longer than the log reaches back gets the state instead.
func TestSnapshotForWhoLagsBehind(t *testing.T) {
	w := newWorld(t, newLoopback(), abc...)
	often := append(slices.Clone(calm), func(c *VoterConfig) { // on a real clock: raft names snapshots by its milliseconds
		c.SnapshotEvery, c.Trailing, c.SnapshotCheck = 20, 5, 50*time.Millisecond
		c.seam.segment = 4096 // the log really forgets what it may forget
	})
	w.start(often, abc...)
	w.propose("0")
	l := w.leader()
	away, _ := w.followers(l)
	away.machine.await(t, 1)
	away.close()
	n := 1
	compacted := func() bool { return must(l.disk.FirstIndex()) > 300 } // several files of the log later
	for ; !compacted(); n++ {
		if _, _, err := l.Propose(t.Context(), fmt.Appendf(nil, "%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	away.open(nil, often...)
	got := away.machine.await(t, n)
	for i, e := range got {
		if e != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q", i, e)
		}
	}
	w.propose(fmt.Sprint(n))
	away.machine.await(t, n+1)
	if !strings.Contains(away.log.String(), "Installed remote snapshot") || l.Stats().SnapshotIndex < 300 {
		t.Error("there was no snapshot")
	}
	away.close() // and what it was sent is on its disk
	away.open(nil, often...)
	away.machine.await(t, n+1)
}

// TestBeginWaitsForAll: the log begins when the last voter has come, and not before; who is missing is in the log.
func TestBeginWaitsForAll(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.nodes["a"].open(w.list(abc...))
		w.nodes["b"].open(w.list(abc...))
		if _, _, err := w.nodes["a"].Propose(t.Context(), []byte("x")); !errors.Is(err, ErrNotLeader) || !strings.Contains(err.Error(), "knows of no leader") {
			t.Error(err)
		}
		limit := time.After(patience)
		for !strings.Contains(w.nodes["a"].log.String(), "missing=[c]") {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-limit:
				t.Fatal(w.nodes["a"].log)
			}
		}
		if w.nodes["a"].configured() || w.nodes["a"].State() != Waiting {
			t.Error("it began without c")
		}
		w.nodes["c"].open(w.list(abc...))
		w.propose("one")
		for _, n := range w.sorted() {
			n.machine.await(t, 1)
			n.awaitState(Voting)
		}
	}, abc...)
}

// TestContradictoryLists: both lists are in the error, on whichever side finds out.
func TestContradictoryLists(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first, second := w.list("a", "b", "c"), w.list("a", "b", "d")
		w.nodes["b"].open(second)
		w.nodes["a"].open(first)
		err := w.nodes["a"].awaitFailure()
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), formatVoters(first)) || !strings.Contains(err.Error(), formatVoters(second)) ||
			!strings.Contains(err.Error(), "the same --voters") {
			t.Error(err)
		}
		if _, _, err := w.nodes["a"].Propose(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if s := w.nodes["a"].State(); s != Failed {
			t.Error(s)
		}
		// Put right, they begin.
		w.nodes["a"].close()
		w.nodes["b"].close()
		w.start(nil, abc...)
		w.propose("one")
	}, "a", "b", "c", "d")
}

func (n *node) awaitFailure() error {
	n.w.t.Helper()
	select {
	case err := <-n.Failed():
		return err
	case <-time.After(patience):
		n.w.t.Fatalf("%s does not fail:\n%s", n.id, n.log)
		return nil
	}
}

// TestOpenRefuses: what can be judged alone is judged at once.
func TestOpenRefuses(t *testing.T) {
	w := newWorld(t, newMemory(t), "a", "b", "c", "d")
	a := w.nodes["a"]
	member := func(id core.NodeID, authority string) core.Member { return core.Member{ID: id, Authority: authority} }
	for _, c := range []struct {
		name   string
		list   []core.Member
		change func(*VoterConfig)
		kind   error
		text   string
	}{
		{"an even count", w.list("a", "b", "c", "d"), nil, ErrEvenVoters, "has 4: an even number"},
		{"without itself", w.list("b", "c", "d"), nil, ErrRefused, "does not name it"},
		{"one twice", append(w.list("a", "b"), member("b", "x:2")), nil, ErrRefused, "names node b twice"},
		{"one address twice", append(w.list("a", "b"), member("c", "b:1")), nil, ErrRefused, "b:1 for nodes b and c"},
		{"no address", append(w.list("a", "b"), member("c", "nowhere")), nil, ErrRefused, `"nowhere" for node c`},
		{"no port", append(w.list("a", "b"), member("c", "c:0")), nil, ErrRefused, `"c:0" for node c`},
		{"no id", append(w.list("a", "b"), member("no id", "c:1")), nil, ErrRefused, `node "no id"`},
		{"nobody", []core.Member{}, nil, ErrRefused, "a list of 0 voters"},
		{"no directory", nil, func(c *VoterConfig) { c.Dir = "" }, nil, "Dir is missing"},
		{"no machine", nil, func(c *VoterConfig) { c.Machine = nil }, nil, "Machine"},
		{"negative times", nil, func(c *VoterConfig) { c.Lease = -1 }, nil, "Lease"},
		{"a lease that is too long", nil, func(c *VoterConfig) { c.Lease = time.Hour }, nil, "cannot be larger than heartbeat"},
	} {
		change := []func(*VoterConfig){}
		if c.change != nil {
			change = append(change, c.change)
		}
		v, err := OpenVoter(a.config(c.list, change...))
		if v != nil || err == nil || !strings.Contains(err.Error(), c.text) || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// The directory is as good as new after all that, and in one voter's hands.
	a.open(w.list("a", "b", "c", "d"), func(c *VoterConfig) { c.AllowEven = true })
	cfg := a.config(w.list("a"))
	cfg.Port = &Port{}
	if _, err := OpenVoter(cfg); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "in use by another process") {
		t.Error(err)
	}
	cfg.Dir = t.TempDir()
	cfg.Port = a.port
	if _, err := OpenVoter(cfg); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "behind this port") {
		t.Error(err)
	}
}

// TestNothingIsLeft: opening and closing leaves neither goroutine nor file open.
func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t, newLoopback(), abc...)
	cycle := func(i int) {
		w.start(nil, abc...)
		for i%10 == 0 { // until it is known to be in the log: it may be there more than once
			if _, _, err := w.leader().Propose(t.Context(), fmt.Append(nil, i)); err == nil {
				break
			}
		}
		for _, n := range w.sorted() {
			n.close()
		}
	}
	cycle(0)
	before := openFiles(t)
	for i := range 100 {
		cycle(i)
	}
	after := openFiles(t)
	for limit := time.Now().Add(patience); after > before+6 && time.Now().Before(limit); after = openFiles(t) { // links may have connected anew
		time.Sleep(10 * time.Millisecond) // the other end of what was closed is closed soon
	}
	if after > before+6 {
		t.Errorf("%d files were open, and now %d", before, after)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("open files cannot be counted here:", err)
	}
	return len(entries)
}
