package host

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link/ca"
	"github.com/wasilo/wasilo/serfwatch"
)

// party is nodes of one cluster in this process, on sockets of loopback.
type party struct {
	t     testing.TB
	diary *diary
	ca    string // directory
	nodes map[string]*Node
	seed  string
}

// patience is how long this process may stand still before its nodes take each other for dead, and lose what their actors know.
const patience = 10 * time.Second

func newParty(t testing.TB) *party {
	t.Helper()
	p := &party{t: t, diary: newDiary(t), ca: filepath.Join(t.TempDir(), "ca"), nodes: make(map[string]*Node)}
	if _, err := ca.Init(p.ca, ca.Options{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// config is that of a node with a native kind "count" unless kinds says otherwise.
func (p *party) config(id string, kinds ...NativeKind) Config {
	p.t.Helper()
	cfg := Config{ID: id, Native: kinds, Log: slog.New(slog.NewTextHandler(p.diary, nil)).With("on", id)}
	cfg.Net = Net{Link: "127.0.0.1:0", Gossip: "127.0.0.1:0", Profile: serfwatch.Fast, patience: patience}
	cfg.Limits.Turn, cfg.Limits.Request = hang, hang // what takes as long does not end
	if p.seed != "" {
		cfg.Net.Join = []string{p.seed}
	}
	p.certify(&cfg)
	return cfg
}

func (p *party) certify(cfg *Config) {
	p.t.Helper()
	authority, err := ca.Load(p.ca, ca.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	cfg.Net.CA = filepath.Join(p.ca, ca.CertificateFile)
	if cfg.Net.Cert, cfg.Net.Key, err = authority.WriteNode(p.t.TempDir(), ca.ID{Cluster: or(cfg.Cluster, "wasilo"), Node: cfg.ID}, 0); err != nil {
		p.t.Fatal(err)
	}
}

func (p *party) add(cfg Config) *Node {
	p.t.Helper()
	n := start(p.t, cfg)
	p.nodes[cfg.ID] = n
	if p.seed == "" {
		p.seed = n.GossipAddr()
	}
	return n
}

// three starts n1, n2 and n3 with the kind "count", and waits until all agree on who is there and what they host.
func (p *party) three() {
	p.t.Helper()
	for _, id := range []string{"n1", "n2", "n3"} {
		p.add(p.config(id, counting("count")))
	}
	p.agree()
}

// agree waits until every node's view places every kind among the same nodes.
func (p *party) agree() {
	p.t.Helper()
	p.until("the nodes agree", func() bool {
		want := ""
		for _, id := range slices.Sorted(maps.Keys(p.nodes)) {
			n := p.nodes[id]
			got := ""
			for _, k := range n.runtime.View().Kinds() {
				got += fmt.Sprint(k, nodesOf(n.runtime.View().Hosts(k)))
			}
			for _, m := range n.runtime.View().Topology().Members() {
				got += fmt.Sprint(m)
			}
			if want == "" {
				want = got
			}
			if got != want || n.runtime.View().Topology().Len() != p.members() {
				return false
			}
		}
		return true
	})
}

func (p *party) members() (n int) {
	for _, node := range p.nodes {
		if node.cfg.Net.Mode == cluster.Member {
			n++
		}
	}
	return n
}

// until waits for what gossip brings about; the limit is for hangs.
func (p *party) until(what string, ok func() bool) {
	p.t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > hang {
			p.t.Fatalf("%s: not within %v", what, hang)
		}
	}
}

// counting is a kind whose actors count their calls, and say so as {"on":NODE-ASSIGNED,"n":COUNT}.
func counting(name string) NativeKind {
	return NativeKind{
		Desc: abi.KindDescription{Name: name, Events: []abi.EventTag{abi.EventCall, abi.EventMessage},
			Methods: []abi.Method{{Name: "add"}, {Name: "get", ReadOnly: true}}},
		New: func(*actor.Host) (actor.Instance, error) { return &counter{}, nil },
	}
}

type counter struct{ n uint64 }

func (c *counter) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	if ev.Method == "add" {
		c.n++
	}
	return replyWith(out, abi.AppendUint(nil, c.n))
}

func (*counter) Close() error { return nil }

func TestSeveralNodesShareTheirActors(t *testing.T) {
	p := newParty(t)
	p.three()
	const identities = 600
	for i := range identities {
		for _, via := range []string{"n1", "n2", "n3"} {
			mustCall(t, p.nodes[via], "count/"+strconv.Itoa(i), "add", "")
		}
	}
	total := 0
	least, most := identities, 0
	for id, n := range p.nodes {
		have := len(n.Actors(gateway.ActorQuery{Kind: "count", Limit: identities}).Actors)
		total += have
		least, most = min(least, have), max(most, have)
		for i := range identities {
			if got := mustCall(t, n, "count/"+strconv.Itoa(i), "get", ""); got != "3" {
				t.Fatalf("count/%d through %s is %s, want 3", i, id, got)
			}
		}
	}
	if total != identities {
		t.Errorf("%d activations of %d actors", total, identities)
	}
	if 10*most > 13*least {
		t.Errorf("between %d and %d actors on a node", least, most)
	}
}

func TestAClientCallsWhatOthersHost(t *testing.T) {
	p := newParty(t)
	p.add(p.config("n1", counting("count"), counting("rare")))
	p.add(p.config("n2", counting("count")))
	p.add(p.config("n3", counting("count"), counting("rare")))
	cfg := p.config("desk")
	cfg.Net.Mode = cluster.Client
	desk := p.add(cfg)
	p.agree()
	for i := range 200 {
		for _, kind := range []string{"count/", "rare/"} {
			if got := mustCall(t, desk, kind+strconv.Itoa(i), "add", ""); got != "1" {
				t.Fatalf("%s%d is %s, want 1", kind, i, got)
			}
		}
	}
	rare := func(id string) int {
		return len(p.nodes[id].Actors(gateway.ActorQuery{Kind: "rare", Limit: 1000}).Actors)
	}
	if a, b, c := rare("n1"), rare("n2"), rare("n3"); a+c != 200 || b != 0 || a < 60 || c < 60 {
		t.Errorf("the actors of a kind that n1 and n3 host: %d, %d and %d", a, b, c)
	}
	if n := len(desk.Actors(gateway.ActorQuery{Limit: 10}).Actors); n != 0 {
		t.Errorf("the client hosts %d actors", n)
	}
	p.until("the client lists the kinds", func() bool { // whoever hosts them is asked, and may take longer than the list waits
		kinds := desk.Kinds()
		if len(kinds) != 2 || kinds[1].Name != "rare" || !slices.Equal(kinds[1].Nodes, []string{"n1", "n3"}) {
			t.Fatalf("the client lists %+v", kinds)
		}
		return len(kinds[1].Methods) == 2
	})
	m, err := desk.Method(t.Context(), "rare", "get", time.Now().Add(hang))
	if err != nil || !m.ReadOnly {
		t.Errorf("what the client knows of a method: %+v, %v", m, err)
	}
	_, err = desk.Method(t.Context(), "rare", "gut", time.Now().Add(hang))
	wantCode(t, err, abi.ErrUnknownMethod, "add, get")
	_, err = desk.Method(t.Context(), "rear", "get", time.Now().Add(hang))
	wantCode(t, err, abi.ErrUnknownKind, "count, rare")
	_, err = call(desk, "rear/1", "get", "")
	wantCode(t, err, abi.ErrUnknownKind)
}

func TestTheMembersAreListed(t *testing.T) {
	p := newParty(t)
	p.three()
	cfg := p.config("desk")
	cfg.Net.Mode = cluster.Client
	p.add(cfg)
	listed := func() (wrong string) {
		for id, n := range p.nodes {
			members := n.Members()
			if len(members) != 4 {
				return fmt.Sprintf("%s lists %+v", id, members)
			}
			for _, m := range members {
				other := p.nodes[m.ID]
				wantKinds := []string{"count"}
				if m.ID == "desk" {
					wantKinds = []string{}
				}
				if m.Self != (m.ID == id) || m.State != gateway.MemberAlive || m.Link != other.LinkAddr() || m.Gossip != other.GossipAddr() ||
					m.Problem != "" || !slices.Equal(m.Kinds, wantKinds) || m.Mode != other.cfg.Net.Mode.String() || !m.Self && !m.Linked {
					return fmt.Sprintf("%s lists %+v", id, m)
				}
			}
		}
		return ""
	}
	wrong := ""
	defer func() {
		if t.Failed() {
			t.Log(wrong)
		}
	}()
	p.until("every node is linked to every other, and each knows all of each", func() bool { wrong = listed(); return wrong == "" })
}

func TestANodeThatJoinsTakesOverOnlyWhatMovesToIt(t *testing.T) {
	p := newParty(t)
	p.add(p.config("n1", counting("count")))
	p.add(p.config("n2", counting("count")))
	p.agree()
	const identities = 300
	name := func(i int) string { return "count/" + strconv.Itoa(i) }
	before := make([]cluster.NodeID, identities)
	for i := range identities {
		mustCall(t, p.nodes["n1"], name(i), "add", "")
		before[i] = p.owner("n1", name(i))
	}
	p.add(p.config("n3", counting("count")))
	p.agree()
	moved := 0
	for i := range identities {
		owner := p.owner("n1", name(i))
		got := mustCall(t, p.nodes["n2"], name(i), "add", "")
		switch {
		case owner == before[i] && got != "2":
			t.Errorf("%s stayed on %s and counts %s, want 2", name(i), owner, got)
		case owner != before[i] && owner != "n3":
			t.Errorf("%s moved from %s to %s, and not to the node that joined", name(i), before[i], owner)
		case owner == "n3":
			moved++
			if got != "1" { // nothing keeps state yet
				t.Errorf("%s moved to n3 and counts %s, want 1", name(i), got)
			}
		}
	}
	if moved < identities/5 || moved > identities/2 {
		t.Errorf("%d of %d actors moved to the third node", moved, identities)
	}
}

func (p *party) owner(via, actor string) cluster.NodeID {
	p.t.Helper()
	id, err := abi.ParseIdentity(actor)
	if err != nil {
		p.t.Fatal(err)
	}
	m, _ := p.nodes[via].runtime.View().OwnerOf(id)
	if m == nil {
		p.t.Fatalf("%s has no owner", actor)
	}
	return m.ID
}

func TestANodeThatLeavesLosesNoCall(t *testing.T) {
	p := newParty(t)
	p.three()
	var stop atomic.Bool
	var calls atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		via := p.nodes[[]string{"n1", "n2"}[w%2]]
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if _, err := call(via, "count/"+strconv.Itoa((i*7+w)%200), "add", ""); err != nil {
					t.Errorf("a call while a node leaves: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	p.until("calls run", func() bool { return calls.Load() > 500 })
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if err := p.nodes["n3"].Shutdown(ctx); err != nil {
		t.Errorf("leaving: %v", err)
	}
	delete(p.nodes, "n3")
	p.agree()
	after := calls.Load()
	p.until("calls run on", func() bool { return calls.Load() > after+500 })
	stop.Store(true)
	wg.Wait()
}

// Two actors on two nodes that ask each other at once are told so: neither node sees both waits, but each sees what it
// sends and what comes in.
func TestCrosswiseCallsBetweenNodesDoNotWaitForEver(t *testing.T) {
	p := newParty(t)
	var at sync.WaitGroup
	ask := nativeKind("ask", func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "answer" {
			return replyWith(out, ev.Payload)
		}
		at.Done()
		at.Wait() // until both turns run
		to, err := abi.ParseIdentity("ask/" + ev.Method)
		if err != nil {
			return err
		}
		r := h.Request(&abi.Request{Target: to, Method: "answer", Payload: ev.Payload})
		if r.Err != nil {
			out.Kind, out.Err = abi.OutError, r.Err
			return nil
		}
		return replyWith(out, r.Payload)
	})
	p.add(p.config("n1", ask))
	p.add(p.config("n2", ask))
	p.agree()
	var names [2]string
	for i := 0; names[0] == "" || names[1] == ""; i++ {
		name := strconv.Itoa(i)
		if p.owner("n1", "ask/"+name) == "n1" {
			names[0] = name
		} else {
			names[1] = name
		}
	}
	for range 20 {
		at.Add(2)
		var errs [2]error
		var wg sync.WaitGroup
		for i := range names {
			wg.Go(func() { _, errs[i] = call(p.nodes["n1"], "ask/"+names[i], names[1-i], `{}`) })
		}
		wg.Wait()
		told := 0
		for _, err := range errs {
			if abi.CodeOf(err) == abi.ErrDeadlock {
				told++
			} else if err != nil {
				t.Errorf("a crosswise call: %v", err)
			}
		}
		if told == 0 {
			t.Errorf("nobody was told of the deadlock: %v", errs)
		}
	}
}

func TestTheSecondNodeOfAnIDIsRefused(t *testing.T) {
	p := newParty(t)
	p.three()
	for i := range 50 {
		mustCall(t, p.nodes["n1"], "count/"+strconv.Itoa(i), "add", "")
	}
	cfg := p.config("n2", counting("count"))
	twin, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = twin.Start(context.Background())
	if err == nil || !strings.Contains(err.Error(), `the node id "n2" is in use`) || !strings.Contains(err.Error(), p.nodes["n2"].LinkAddr()) ||
		!strings.Contains(err.Error(), "--id") {
		t.Errorf("the second n2: %v", err)
	}
	if err := twin.Shutdown(context.Background()); err != nil {
		t.Errorf("shutting it down: %v", err)
	}
	p.agree() // the first one is there as before, and its actors live
	for i := range 50 {
		if got := mustCall(t, p.nodes["n3"], "count/"+strconv.Itoa(i), "add", ""); got != "2" {
			t.Errorf("count/%d is %s, want 2", i, got)
		}
	}
	if err := p.nodes["n2"].Err(); err != nil {
		t.Errorf("the first n2 ended: %v", err)
	}
}

// A clock that is an hour off must not make a node a stranger: certificates are dated back, and deadlines travel as what is left.
func TestClocksAnHourApart(t *testing.T) {
	p := newParty(t)
	p.add(p.config("n1", counting("count")))
	for id, skew := range map[string]time.Duration{"n2": time.Hour, "n3": -time.Hour} {
		cfg := p.config(id, counting("count"))
		cfg.Net.skew = skew
		p.add(cfg)
	}
	p.agree()
	round := func(want string) {
		t.Helper()
		for i := range 60 {
			for _, via := range []string{"n1", "n2", "n3"} {
				mustCall(t, p.nodes[via], "count/"+strconv.Itoa(i), "add", "")
			}
			if got := mustCall(t, p.nodes["n1"], "count/"+strconv.Itoa(i), "get", ""); got != want {
				t.Fatalf("count/%d is %s, want %s", i, got, want)
			}
		}
	}
	round("3")

	// A node whose clock is put back by an hour while it is down: its new run has the smaller boot number, and is taken all the same
	// once the old one is known to be dead.
	p.crash("n2")
	cfg := p.config("n2", counting("count"))
	cfg.Net.skew = 0
	p.add(cfg)
	p.until("the new run of n2 is a member", func() bool {
		for _, id := range []string{"n1", "n3"} {
			m, ok := p.nodes[id].runtime.View().Topology().Member("n2")
			if !ok || m.Boot != p.nodes["n2"].net.self.Boot {
				return false
			}
		}
		return true
	})
	p.agree()
	for i := range 60 {
		mustCall(t, p.nodes["n1"], "count/"+strconv.Itoa(i), "add", "")
	}
	if err := p.nodes["n2"].Err(); err != nil {
		t.Errorf("the new run ended: %v", err)
	}
}

// A node that is killed and started again at once, on other ports, takes its own place: what is left of it in the gossip does
// not answer.
func TestANodeThatIsStartedAgainAtOnce(t *testing.T) {
	p := newParty(t)
	p.three()
	for range 3 {
		p.crash("n2")
		p.add(p.config("n2", counting("count")))
		p.agree()
		for i := range 60 {
			name := "count/" + strconv.Itoa(i)
			a := mustCall(t, p.nodes["n1"], name, "add", "")
			if b := mustCall(t, p.nodes["n2"], name, "get", ""); a != b {
				t.Errorf("%s is %s and %s", name, a, b)
			}
		}
	}
}

// crash cuts a node off from the others without a word, as far as one process can do that to a part of itself.
func (p *party) crash(id string) {
	p.t.Helper()
	n := p.nodes[id]
	if err := n.net.close(); err != nil {
		p.t.Fatal(err)
	}
	delete(p.nodes, id)
}

func TestNodesOfAnotherClusterAreStrangers(t *testing.T) {
	p := newParty(t)
	p.three()
	other := p.config("n4", counting("count"))
	other.Cluster = "elsewhere"
	p.certify(&other)
	n := start(t, other)
	if got := mustCall(t, n, "count/1", "add", ""); got != "1" {
		t.Errorf("it serves by itself: %s", got)
	}
	p.agree()
	if ms := n.Members(); len(ms) != 1 {
		t.Errorf("it sees %+v", ms)
	}
}

func TestAnotherAuthoritysNodeGetsNoActor(t *testing.T) {
	p := newParty(t)
	p.three()
	q := newParty(t)
	cfg := p.config("n4", counting("count"), counting("bait"))
	q.certify(&cfg)
	stranger := start(t, cfg) // gossip takes it, the links do not
	p.until("the stranger is seen", func() bool { return p.nodes["n1"].runtime.View().Topology().Len() == 4 })
	for i := range 100 {
		if got := mustCall(t, p.nodes["n1"], "count/"+strconv.Itoa(i), "add", ""); got != "1" {
			t.Errorf("count/%d is %s", i, got)
		}
		if owner := p.owner("n1", "count/"+strconv.Itoa(i)); owner == "n4" {
			t.Fatalf("count/%d is placed on a node that proves nothing", i)
		}
	}
	p.until("the stranger knows that nobody believes it", func() bool { return !stranger.Ready().Ready })
	if !p.nodes["n1"].Ready().Ready {
		t.Error("a node that refuses one other is not ready")
	}
	p.until("it is said what is wrong", func() bool {
		for _, m := range p.nodes["n1"].Members() {
			if m.ID == "n4" && !m.Linked && strings.Contains(m.Problem, "certificate") {
				return true
			}
		}
		return false
	})
}

// A node that reaches the others and cannot be reached by them hosts nothing: it would take its share of the actors whenever gossip
// believes it, and lose it again.
func TestANodeThatCannotBeReachedHostsNothing(t *testing.T) {
	p := newParty(t)
	p.add(p.config("n1", counting("count")))
	p.add(p.config("n2", counting("count")))
	p.agree()
	cfg := p.config("n3", counting("count"))
	cfg.Net.Advertise = "127.0.0.9" // where it does not listen
	start(t, cfg)
	n1 := p.nodes["n1"]
	p.until("n3 has connected and said what it hosts", func() bool {
		for _, l := range n1.net.link.Peers() {
			if l.ID == "n3" && l.Incoming > 0 && l.Kinds != nil {
				return true
			}
		}
		return false
	})
	for i := range 100 {
		mustCall(t, n1, "count/"+strconv.Itoa(i), "add", "")
	}
	if hosts := nodesOf(n1.runtime.View().Hosts("count")); !slices.Equal(hosts, []string{"n1", "n2"}) {
		t.Errorf("the hosts are %v", hosts)
	}
}

func TestAJoinAddressThatDoesNotAnswer(t *testing.T) {
	var log lines
	p := newParty(t)
	cfg := p.config("n1", counting("count"))
	cfg.Log = log.logger()
	cfg.Net.Join = []string{"127.0.0.1:1"}
	n := p.add(cfg)
	if got := mustCall(t, n, "count/1", "add", ""); got != "1" {
		t.Errorf("it serves alone: %s", got)
	}
	p.until("the log says so", func() bool { // a start does not wait for long
		return strings.Contains(log.find("cannot join the cluster through a seed"), "127.0.0.1:1")
	})
}

func TestTwoHundredKindsOnANode(t *testing.T) {
	p := newParty(t)
	var kinds []NativeKind
	for i := range 200 {
		kinds = append(kinds, counting(fmt.Sprintf("%s-%03d", strings.Repeat("k", 59), i)))
	}
	p.add(p.config("n1", kinds...))
	p.add(p.config("n2", counting("count")))
	p.agree()
	for _, k := range kinds {
		if got := mustCall(t, p.nodes["n2"], k.Desc.Name+"/1", "add", ""); got != "1" {
			t.Fatalf("%s is %s", k.Desc.Name, got)
		}
	}
	p.until("each kind is listed with its methods", func() bool { // n1 is asked for them, and may take longer than the list waits
		listed := p.nodes["n2"].Kinds()
		if len(listed) != 201 {
			t.Fatalf("%d kinds are listed, want 201", len(listed))
		}
		return !slices.ContainsFunc(listed, func(k gateway.KindInfo) bool { return len(k.Methods) != 2 })
	})
}

func TestWhatIsWrongWithANetworkIsSaid(t *testing.T) {
	for _, c := range []struct {
		net  Net
		want []string
	}{
		{Net{Link: "0.0.0.0:7701"}, []string{"link 0.0.0.0:7701 is not loopback", "wasilo ca init", "wasilo node cert", "--gossip-key"}},
		{Net{Link: "127.0.0.1:0", Gossip: "192.0.2.1:7946"}, []string{"gossip 192.0.2.1:7946 is not loopback", "wasilo ca init"}},
		{Net{Link: "127.0.0.1:0", CA: "a", Cert: "b"}, []string{"all three or none"}},
		{Net{Link: ":7701", CA: "a", Cert: "b", Key: "c"}, []string{"link :7701 is not loopback", "gossip key"}},
		{Net{Join: []string{"127.0.0.1:7946"}}, []string{"needs a link"}},
		{Net{Link: "127.0.0.1:0", Advertise: "host:80"}, []string{"without a port"}},
		{Net{Link: "127.0.0.1:0", Mode: 7}, []string{"neither member nor client"}},
	} {
		_, err := New(Config{Net: c.net})
		if err == nil {
			t.Errorf("%+v is taken", c.net)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: %q lacks %q", c.net, err, w)
			}
		}
	}
	_, err := New(Config{Net: Net{Link: "127.0.0.1:0", Mode: cluster.Client}, Native: []NativeKind{counting("count")}})
	if err == nil || !strings.Contains(err.Error(), "a client hosts nothing") {
		t.Errorf("a client with actors: %v", err)
	}
}
