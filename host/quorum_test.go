package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
)

func (p *parliament) three() {
	p.t.Helper()
	p.enter(p.seat("v1", nil, counting("count")), p.seat("v2", nil, counting("count")), p.seat("v3", nil, counting("count")))
}

func TestQuorumNodesShareTheirActors(t *testing.T) {
	p := newParliament(t, 3)
	p.three()
	p.enter(p.seat("c1", nil, counting("count")), p.seat("c2", nil, counting("count")))
	const identities = 300
	for i := range identities {
		for _, via := range p.all {
			mustCall(t, p.nodes[via], "count/"+strconv.Itoa(i), "add", "")
		}
	}
	total := 0
	for id, n := range p.nodes {
		have := len(n.Actors(gateway.ActorQuery{Kind: "count", Limit: identities}).Actors)
		total += have
		if have < identities/20 {
			t.Errorf("%d actors on %s", have, id)
		}
		for i := range identities {
			if got := mustCall(t, n, "count/"+strconv.Itoa(i), "get", ""); got != "5" {
				t.Fatalf("count/%d through %s is %s, want 5", i, id, got)
			}
		}
	}
	if total != identities {
		t.Errorf("%d activations of %d actors", total, identities)
	}
}

// cycle returns the nodes in turn, but for those that are gone.
func (p *parliament) cycle() func() *Node {
	var nodes []*Node
	for _, id := range slices.Sorted(maps.Keys(p.nodes)) {
		nodes = append(nodes, p.nodes[id])
	}
	return among(nodes...)
}

func among(nodes ...*Node) func() *Node {
	var i atomic.Int64
	return func() *Node {
		n := nodes[int(i.Add(1))%len(nodes)]
		if !n.serving.Load() {
			return nil
		}
		return n
	}
}

// guests are the examples, whose counters hibernate.
func (p *parliament) guests(change func(*Config)) func(*Config) {
	dir := actorsDir(p.t, "examples.wasm")
	return func(cfg *Config) {
		cfg.ActorsDir, cfg.CacheDir = dir, filepath.Join(compiled, "cache")
		cfg.Limits.Hibernate = 200 * time.Millisecond
		if change != nil {
			change(cfg)
		}
	}
}

func value(t testing.TB, n *Node, actor string) int {
	t.Helper()
	return field[int](t, mustCall(t, n, actor, "get", ""), "value")
}

// A node that joins takes over its share, with what sleeps; nothing is lost, nothing happens twice, and no request fails.
func TestAJoinMovesWhatSleeps(t *testing.T) {
	p := newParliament(t, 3)
	guests := p.guests(nil)
	p.enter(p.seat("v1", guests), p.seat("v2", guests), p.seat("v3", guests))
	const actors = 512
	load := p.put(16, actors, "counter", p.cycle())
	p.until("every actor has counted", func() bool { return load.calls.Load() > 4*actors })
	before := make([]cluster.NodeID, actors)
	for i := range before {
		before[i] = p.owner("v1", "counter/"+strconv.Itoa(i))
	}
	p.enter(p.seat("n4", guests))
	after := load.calls.Load()
	p.until("calls run on", func() bool { return load.calls.Load() > after+2*actors })
	load.stop()
	if load.failed.Load() > 0 {
		t.Errorf("%d calls failed while partitions moved", load.failed.Load())
	}
	for _, s := range load.back {
		t.Error(s)
	}
	moved := 0
	for i := range before {
		name := "counter/" + strconv.Itoa(i)
		switch owner := p.owner("v1", name); {
		case owner == "n4":
			moved++
		case owner != before[i]:
			t.Errorf("%s moved from %s to %s, and not to the node that joined", name, before[i], owner)
		}
		if got := value(t, p.nodes["v2"], name); got != load.added[name] {
			t.Errorf("%s counts %d after %d calls", name, got, load.added[name])
		}
	}
	if moved < actors/8 || moved > actors/2 {
		t.Errorf("%d of %d actors moved to the fourth node", moved, actors)
	}
}

// Turns that wait for turns of other actors, on all nodes, while a node joins and another gives all it has away: none fails, none waits for
// ever, and no money is made or lost.
func TestTransfersWhilePartitionsMove(t *testing.T) {
	p := newParliament(t, 3)
	guests := p.guests(nil)
	p.enter(p.seat("v1", guests), p.seat("v2", guests), p.seat("v3", guests))
	const accounts = 48
	name := func(i int) string { return "bank/" + strconv.Itoa(i%accounts) }
	for i := range accounts {
		mustCall(t, p.nodes["v1"], name(i), "deposit", `{"amount":100}`)
	}
	nodes := p.cycle()
	var stop atomic.Bool
	var done, poor atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 7))
			for !stop.Load() {
				from, to := rnd.IntN(accounts), rnd.IntN(accounts)
				if from == to {
					continue
				}
				_, err := callFor(nodes(), name(from), "transfer", fmt.Sprintf(`{"to":"%d","amount":%d}`, to, 1+rnd.IntN(30)), hang)
				switch {
				case err == nil:
					done.Add(1)
				case abi.AsError(err).App == "insufficient_funds":
					poor.Add(1)
				default:
					t.Errorf("from %d to %d: %v", from, to, err)
					return
				}
			}
		})
	}
	p.until("money moves", func() bool { return done.Load() > 500 || t.Failed() })
	p.enter(p.seat("n4", guests))
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if err := p.nodes["v2"].quorum.drain(ctx); err != nil {
		t.Error(err)
	}
	before := done.Load()
	p.until("money moves on", func() bool { return done.Load() > before+500 || t.Failed() })
	p.nodes["v2"].quorum.undrain()
	p.live()
	stop.Store(true)
	wg.Wait()
	t.Logf("%d transfers, %d refusals", done.Load(), poor.Load())
	sum := 0
	for i := range accounts {
		sum += field[int](t, mustCall(t, p.nodes["v3"], name(i), "balance", ""), "balance")
	}
	if sum != 100*accounts {
		t.Errorf("there are %d, not %d", sum, 100*accounts)
	}
}

// Each node in turn is shut down under load and comes back: no counter loses what it counted.
func TestARollingRestartLosesNothing(t *testing.T) {
	p := newParliament(t, 3)
	guests := p.guests(nil)
	p.enter(p.seat("v1", guests), p.seat("v2", guests), p.seat("v3", guests))
	const actors = 128
	var via atomic.Pointer[func() *Node]
	set := func() { f := p.cycle(); via.Store(&f) }
	set()
	load := p.put(8, actors, "counter", func() *Node { return (*via.Load())() })
	for _, id := range []string{"v1", "v2", "v3"} {
		p.until("calls run", func() bool { return load.calls.Load() > actors })
		n := p.nodes[id]
		delete(p.nodes, id)
		set()
		p.nodes[id] = n
		p.leave(id)
		p.live()
		p.enter(p.seat(id, guests))
		set()
	}
	load.stop()
	for _, s := range load.back {
		t.Error(s)
	}
	for i := range actors {
		name := "counter/" + strconv.Itoa(i)
		if got := value(t, p.nodes["v1"], name); got < load.added[name] || got > load.added[name]+load.doubt[name] {
			t.Errorf("%s counts %d after %d calls, and %d of which it is not known", name, got, load.added[name], load.doubt[name])
		}
	}
}

// A node that crashes, the leader of the voters even: its actors answer again, and those of others never fail for long.
func TestACrashOfAnyVoter(t *testing.T) {
	for _, who := range []string{"a follower", "the leader"} {
		t.Run(who, func(t *testing.T) {
			// A machine that stands still for longer than a session lasts ends sessions of nodes that live, too. What calls come to then is no matter
			// of the crash: it is seen, and there is another one.
			const rounds = 4
			for round, calm := 1, false; !calm && round <= rounds && !t.Failed(); round++ {
				t.Run(strconv.Itoa(round), func(t *testing.T) { calm = crash(t, who) })
			}
		})
	}
}

// crash reports whether the nodes that lived kept their sessions. If not, some of their calls may have been refused.
func crash(t *testing.T, who string) (calm bool) {
	p := newParliament(t, 3)
	p.session = briefly
	p.three()
	p.enter(p.seat("c1", nil, counting("count")), p.seat("c2", nil, counting("count")))
	const actors, workers = 64, 8
	leader := p.leader()
	victim := leader
	if who == "a follower" {
		victim = p.others(leader, "c1", "c2")[0]
	}
	rest := p.others(victim)
	var nodes []*Node
	for _, id := range rest {
		nodes = append(nodes, p.nodes[id])
	}
	kept := p.vigil(rest...)
	load := p.put(workers, actors, "count", among(nodes...))
	p.until("calls run", func() bool { return load.calls.Load() > 4*actors })
	var its []string
	for i := range actors {
		if name := "count/" + strconv.Itoa(i); p.owner(rest[0], name) == cluster.NodeID(victim) {
			its = append(its, name)
		}
	}
	began := time.Now()
	p.kill(victim)
	var refused error
	for _, name := range its {
		p.until(name+" answers again", func() bool {
			_, err := call(nodes[0], name, "get", "")
			if err != nil {
				refused = fmt.Errorf("%s: %w", name, err)
			}
			return err == nil || !abi.CodeOf(err).Retryable()
		})
	}
	t.Logf("%d actors of the node answer again after %s", len(its), time.Since(began))
	p.live()
	after := load.calls.Load()
	p.until("calls run on", func() bool { return load.calls.Load() > after+4*actors })
	load.stop()
	if calm = kept(); !calm {
		t.Log("a node that lived lost its session: the machine stood still")
	}
	if refused != nil && (calm || !abi.CodeOf(refused).Retryable()) {
		t.Error(refused)
	}
	// What was on its way to the node may have been done: for each worker one call by way of each node, which may notice one after
	// another. Everything else is tried again, within the time of a call.
	if n := load.failed.Load(); calm && (int(n) > workers*len(rest) || int(n) != load.unknown) {
		t.Errorf("%d calls failed, %d of them since it is not known what became of them", n, load.unknown)
	}
	p.once("count", actors)
	return calm
}

// Who is cut off from the majority refuses within the time of a session, retryably, and serves again after the heal.
func TestAMinorityRefuses(t *testing.T) {
	for _, how := range []string{"cut", "muted"} {
		t.Run(how, func(t *testing.T) {
			p := newParliament(t, 3)
			p.session = briefly
			p.three()
			const actors = 64
			for i := range actors {
				mustCall(t, p.nodes["v1"], "count/"+strconv.Itoa(i), "add", "")
			}
			victim := p.leader()
			rest := p.others(victim)
			if how == "cut" {
				p.isolate(victim)
			} else {
				p.silence(victim)
			}
			began := time.Now()
			n := p.nodes[victim]
			var mine []string
			var theirs string
			for i := range actors {
				if name := "count/" + strconv.Itoa(i); p.owner(victim, name) == cluster.NodeID(victim) {
					mine = append(mine, name)
				} else {
					theirs = name
				}
			}
			p.until("the minority refuses", func() bool {
				mine = append(mine[1:], mine[0])
				_, err := callFor(n, mine[0], "add", "", time.Second)
				switch abi.CodeOf(err) {
				case abi.ErrNone:
					return false
				case abi.ErrTimeout: // the session ended within the turn, which waits for another session: the next actor will tell
					return false
				}
				wantCode(t, err, abi.ErrNoQuorum)
				return true
			})
			t.Logf("it refuses after %s", time.Since(began))
			asked := time.Now()
			_, err := call(n, theirs, "add", "")
			wantCode(t, err, abi.ErrNoQuorum)
			if d := time.Since(asked); d > hang/2 { // it waits for nothing
				t.Errorf("what is others' was refused after %s", d)
			}
			p.apart(victim)
			mustCall(t, p.nodes[rest[0]], mine[0], "get", "")
			t.Logf("the majority has them after %s", time.Since(began))
			p.rejoin(victim)
			p.live()
			for i := range actors {
				mustCall(t, n, "count/"+strconv.Itoa(i), "get", "")
			}
		})
	}
}

// A node that crashes and is back within a moment, under its own name: what its earlier run had is given to a session once, and calls go on.
func TestARestartWithinAMoment(t *testing.T) {
	p := newParliament(t, 3)
	p.session = briefly
	p.three()
	p.enter(p.seat("c1", nil, counting("count")))
	const actors = 64
	for _, id := range []string{"c1", p.leader()} {
		var nodes []*Node
		for _, o := range p.others(id) {
			nodes = append(nodes, p.nodes[o])
		}
		load := p.put(8, actors, "count", among(nodes...))
		p.until("calls run", func() bool { return load.calls.Load() > 4*actors })
		p.kill(id)
		p.rejoin(id)
		p.enter(p.seat(id, nil, counting("count")))
		after := load.calls.Load()
		p.until("calls run on", func() bool { return load.calls.Load() > after+4*actors })
		load.stop()
		for i := range actors {
			mustCall(t, p.nodes[id], "count/"+strconv.Itoa(i), "get", "")
		}
	}
	p.once("count", actors)
}

// once waits until each actor of a kind has one activation, of all nodes. One that has given an actor away lists it until it has forgotten it.
func (p *parliament) once(kind string, actors int) {
	p.t.Helper()
	on := make(map[string][]string)
	defer func() {
		if p.t.Failed() {
			p.t.Logf("the actors of %s are active on %v", kind, on)
		}
	}()
	p.until("each actor lives once", func() bool {
		clear(on)
		once := true
		for id, n := range p.nodes {
			for _, a := range n.Actors(gateway.ActorQuery{Kind: kind, State: gateway.ActorsActive, Limit: actors + 1}).Actors {
				on[a.ID] = append(on[a.ID], id)
				once = once && len(on[a.ID]) == 1
			}
		}
		return once && len(on) == actors
	})
}

// A voter whose disk is lost comes back as another voter, and says what to do; the others go on.
func TestAVoterLosesItsDisk(t *testing.T) {
	p := newParliament(t, 3)
	p.session = briefly
	p.three()
	victim := p.others(p.leader())[0]
	p.kill(victim)
	if err := os.RemoveAll(filepath.Join(p.dirs[victim], "raft")); err != nil {
		t.Fatal(err)
	}
	p.rejoin(victim)
	rest := p.others(victim)
	p.enter(p.seat(victim, nil, counting("count"))) // it has a session like any other node
	for i := range 100 {
		mustCall(t, p.nodes[victim], "count/"+strconv.Itoa(i), "add", "")
		mustCall(t, p.nodes[rest[0]], "count/"+strconv.Itoa(i), "add", "")
	}
	members, _ := p.nodes[rest[0]].quorum.voter.Voters()
	if id := p.nodes[victim].quorum.voter.ID(); slices.ContainsFunc(members, func(m consensus.Member) bool { return m.ID == id }) {
		t.Errorf("the voter without its disk is %s, one of %v", id, members)
	}
	t.Logf("%s among %+v", p.nodes[victim].quorum.voter.ID(), members)
}

// A kind that is on some nodes only is placed among them; where it is withdrawn the others have it; withdrawn everywhere it is unknown.
func TestAKindOnSomeNodes(t *testing.T) {
	p := newParliament(t, 3)
	watch := func(cfg *Config) { cfg.Watch = true }
	one, three := p.guests(watch), p.guests(watch)
	p.enter(p.seat("v1", one, counting("count")), p.seat("v2", nil, counting("count")), p.seat("v3", three, counting("count")))
	for i := range 100 {
		for id, n := range p.nodes {
			mustCall(t, n, "count/"+strconv.Itoa(i), "add", "")
			if got := field[int](t, mustCall(t, n, "counter/"+strconv.Itoa(i), "add", `{"by":1}`), "value"); got > 3 {
				t.Fatalf("counter/%d through %s is %d", i, id, got)
			}
		}
		if owner := p.owner("v2", "counter/"+strconv.Itoa(i)); owner == "v2" {
			t.Fatalf("counter/%d is on v2", i)
		}
	}
	_, err := call(p.nodes["v2"], "nothing/1", "get", "")
	wantCode(t, err, abi.ErrUnknownKind)

	withdraw := func(id string) {
		if err := os.Remove(filepath.Join(p.nodes[id].cfg.ActorsDir, "examples.wasm")); err != nil {
			t.Fatal(err)
		}
		p.until(id+" has withdrawn its kinds", func() bool { return p.nodes[id].kinds.Load().byName["counter"] == nil })
	}
	withdraw("v3")
	p.live()
	for i := range 100 {
		if got := value(t, p.nodes["v2"], "counter/"+strconv.Itoa(i)); got != 3 {
			t.Errorf("counter/%d is %d after v3 withdrew it, want 3", i, got)
		}
		if owner := p.owner("v2", "counter/"+strconv.Itoa(i)); owner != "v1" {
			t.Fatalf("counter/%d is on %s", i, owner)
		}
	}
	withdraw("v1")
	p.until("the kind is unknown", func() bool {
		_, err := callFor(p.nodes["v2"], "counter/1", "get", "", time.Second)
		return abi.CodeOf(err) == abi.ErrUnknownKind
	})
	for i := range 100 {
		if got := mustCall(t, p.nodes["v1"], "count/"+strconv.Itoa(i), "get", ""); got != "3" {
			t.Errorf("count/%d is %s", i, got)
		}
	}
}

// A drain leaves nothing behind on the node, and the node still serves as a gateway.
func TestADrainMovesEverything(t *testing.T) {
	p := newParliament(t, 3)
	guests := p.guests(nil)
	p.enter(p.seat("v1", guests), p.seat("v2", guests), p.seat("v3", guests))
	const actors = 128
	load := p.put(8, actors, "counter", p.cycle())
	p.until("every actor has counted", func() bool { return load.calls.Load() > 4*actors })
	n := p.nodes["v2"]
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if err := n.quorum.drain(ctx); err != nil {
		t.Fatal(err)
	}
	if s, _ := n.quorum.resident.Standing(); s.Owned != 0 {
		t.Errorf("%+v", s)
	}
	drains := func(who ...string) func() bool { // as the members are listed, by any node
		return func() bool {
			var all []string
			for _, m := range p.nodes["v3"].Members() {
				if m.Draining {
					all = append(all, m.ID)
				}
			}
			return slices.Equal(all, who)
		}
	}
	p.until("the members are listed with who drains", drains("v2"))
	after := load.calls.Load()
	p.until("calls run on", func() bool { return load.calls.Load() > after+2*actors })
	p.until("no actor is on the node", func() bool { // it forgets them once it hears that others have them
		return len(n.Actors(gateway.ActorQuery{Kind: "counter", Limit: actors}).Actors) == 0
	})
	n.quorum.undrain()
	p.live()
	p.until("the members are listed without", drains())
	load.stop()
	if load.failed.Load() > 0 {
		t.Errorf("%d calls failed", load.failed.Load())
	}
	for _, s := range load.back {
		t.Error(s)
	}
	for i := range actors {
		name := "counter/" + strconv.Itoa(i)
		if got := value(t, p.nodes["v1"], name); got != load.added[name] {
			t.Errorf("%s counts %d after %d calls", name, got, load.added[name])
		}
	}
}

// Starting and stopping leaves nothing behind: no goroutine, no file, no socket.
func TestStartsAndStopsLeaveNothing(t *testing.T) {
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Skipf("open files cannot be counted here: %v", err)
	}
	files := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	quiet := func(cfg *Config) { cfg.Log = slog.New(slog.DiscardHandler) }
	cycles := 5 // the hundred take minutes: WASILO_CYCLES=100
	if n, err := strconv.Atoi(os.Getenv("WASILO_CYCLES")); err == nil {
		cycles = n
	}
	t.Run("a voter alone", func(t *testing.T) {
		p := newParliament(t, 1)
		usual := func(c *Config) { // who is alone loses no leader, and is to be one at once
			quiet(c)
			c.Net.voter = nil
		}
		cycle := func() {
			p.seed = ""
			p.enter(p.seat("v1", usual, counting("count")))
			mustCall(t, p.nodes["v1"], "count/1", "add", "")
			p.leave("v1")
		}
		cycle()
		before := goleak.IgnoreCurrent()
		open := files()
		began := time.Now()
		for range cycles {
			cycle()
		}
		t.Logf("a cycle took %s", time.Since(began)/time.Duration(cycles))
		var left error // what waits for an answer of the gossip ends by itself
		defer func() {
			if t.Failed() {
				t.Log(left)
			}
		}()
		p.until("nothing is left of them", func() bool { left = goleak.Find(before); return left == nil && files() <= open })
	})
	t.Run("one of a cluster", func(t *testing.T) {
		p := newParliament(t, 3)
		p.enter(p.seat("v1", quiet, counting("count")), p.seat("v2", quiet, counting("count")), p.seat("v3", quiet, counting("count")))
		cycle := func() {
			p.enterOnly(p.seat("c1", quiet, counting("count")))
			mustCall(t, p.nodes["c1"], "count/1", "add", "")
			p.leave("c1")
		}
		cycle()
		ends := func() (sum int) { // of the voters' streams
			for _, n := range p.nodes {
				sum += n.net.link.Stats().Streams
			}
			return sum
		}
		goroutines, open, streams := runtime.NumGoroutine(), files(), ends()
		began := time.Now()
		for range cycles {
			cycle()
		}
		t.Logf("a cycle took %s", time.Since(began)/time.Duration(cycles))
		defer func() {
			if t.Failed() {
				t.Logf("%d goroutines, %d files, %d ends of streams; before %d, %d, %d", runtime.NumGoroutine(), files(), ends(), goroutines, open, streams)
			}
		}()
		p.until("nothing is left of them", func() bool {
			// The voters open another stream among themselves when they want one, and keep it. Each end takes two or three goroutines, and
			// two files with the test's cables.
			more := max(0, ends()-streams)
			return runtime.NumGoroutine() <= goroutines+5+3*more && files() <= open+5+2*more
		})
	})
}

// An entry of a newer version ends the voters, which say why, and a start over it fails in the same way: nobody goes on with a table that lacks
// it.
func TestAnEntryOfTheFutureEndsTheVoters(t *testing.T) {
	p := newParliament(t, 1)
	p.enter(p.seat("v1", nil, counting("count")))
	n := p.nodes["v1"]
	future := abi.AppendUint(abi.AppendArray(nil, 1), core.EntryVersion+1)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if _, _, err := n.quorum.voter.Propose(ctx, future); err != nil {
		t.Logf("proposed: %v", err)
	}
	ended := func(n *Node) {
		t.Helper()
		select {
		case <-n.Done():
		case <-time.After(hang):
			t.Fatal("it goes on")
		}
		if err := n.Err(); !errors.Is(err, core.ErrEntryVersion) || !strings.Contains(err.Error(), "update this node") {
			t.Errorf("it ended with %v", err)
		}
	}
	ended(n)
	p.leave("v1")
	p.seed = ""
	again, err := New(p.seat("v1", nil, counting("count")))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Shutdown(context.Background())
	if err := again.Start(t.Context()); err == nil {
		ended(again)
	} else if !errors.Is(err, core.ErrEntryVersion) {
		t.Errorf("it does not start: %v", err)
	}
}
