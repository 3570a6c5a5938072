package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/gateway"
)

// cables are the ways between the links of a party's nodes, some of which may be cut. Gossip does not notice.
type cables struct {
	mu    sync.Mutex
	cut   map[[2]string]bool // who dials, and the address
	err   error
	conns map[[2]string][]net.Conn
}

func (c *cables) of(id string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		way := [2]string{id, address}
		c.mu.Lock()
		cut := c.cut[way]
		c.mu.Unlock()
		if cut && c.err != nil {
			return nil, c.err
		} else if cut {
			return nil, errors.New("the cable is cut")
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			c.mu.Lock()
			c.conns[way] = append(c.conns[way], conn)
			c.mu.Unlock()
		}
		return conn, err
	}
}

func (c *cables) set(from, to *Node, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	way := [2]string{from.cfg.ID, to.LinkAddr()}
	c.cut[way] = cut
	if cut {
		for _, conn := range c.conns[way] {
			conn.Close()
		}
		c.conns[way] = nil
	}
}

// cabled makes a party of n1, n2 and n3, and of n4 upon n, whose cables can be cut.
func cabled(t *testing.T, n int, change func(*Config)) (*party, *cables) {
	p := newParty(t)
	c := &cables{cut: make(map[[2]string]bool), conns: make(map[[2]string][]net.Conn)}
	for i := range n {
		id := "n" + strconv.Itoa(i+1)
		cfg := p.config(id, counting("count"), counting("of-"+id), logging("log"))
		cfg.Net.dial = c.of(id)
		if change != nil {
			change(&cfg)
		}
		p.add(cfg)
	}
	p.agree()
	return p, c
}

// logging is a kind whose actors keep what they are told.
func logging(name string) NativeKind {
	return NativeKind{
		Desc: abi.KindDescription{Name: name, Events: []abi.EventTag{abi.EventCall, abi.EventMessage},
			Methods: []abi.Method{{Name: "tell"}, {Name: "told", ReadOnly: true}}},
		New: func(*actor.Host) (actor.Instance, error) { return &journal{}, nil },
	}
}

type journal struct{ told []string }

func (j *journal) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	if ev.Method == "tell" {
		j.told = append(j.told, string(ev.Payload))
		return replyWith(out, abi.AppendUint(nil, 0))
	}
	return replyWith(out, abi.AppendText(nil, strings.Join(j.told, " ")))
}

func (*journal) Close() error { return nil }

func (p *party) member(of, id string) gateway.MemberInfo {
	for _, m := range p.nodes[of].Members() {
		if m.ID == id {
			return m
		}
	}
	return gateway.MemberInfo{}
}

// Where two of three nodes cannot reach each other, every call between them goes through the third, and people can see it.
func TestAPairThatIsCutGoesThroughTheThird(t *testing.T) {
	for _, ways := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d ways", ways), func(t *testing.T) {
			p, cables := cabled(t, 3, nil)
			n1, n2, n3 := p.nodes["n1"], p.nodes["n2"], p.nodes["n3"]
			const identities = 100
			everybody := func(want uint64) {
				t.Helper()
				for i := range identities {
					for _, kind := range []string{"count/", "of-n1/", "of-n2/"} {
						for k, n := range []*Node{n1, n2, n3} {
							got, err := call(n, kind+strconv.Itoa(i), "add", "")
							if err != nil || got != strconv.FormatUint(3*want+uint64(k)+1, 10) {
								t.Fatalf("%s%d through %s: %s, %v; want %d", kind, i, n.cfg.ID, got, err, 3*want+uint64(k)+1)
							}
						}
					}
				}
			}
			everybody(0)
			if ways == 2 { // as a firewall may, which is no sign that a process has ended
				cables.err = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
			}
			cables.set(n1, n2, true)
			if ways == 2 {
				cables.set(n2, n1, true)
			}
			p.until("n1 goes through n3", func() bool { return p.member("n1", "n2").Relay == "n3" })
			if ways == 2 {
				p.until("n2 goes through n3", func() bool { return p.member("n2", "n1").Relay == "n3" })
			}
			time.Sleep(2 * refusedTime) // for refusals to count, if they did
			everybody(1)
			if m := p.member("n1", "n2"); !strings.Contains(m.Problem, "relayed through node n3: node n1 cannot reach node n2 at "+m.Link) || m.State != gateway.MemberAlive {
				t.Errorf("n1 lists %+v", m)
			}
			found := false
			for _, c := range n1.Ready().Checks {
				found = found || c.Name == "node n2" && !c.OK && strings.Contains(c.Detail, "relayed through node n3")
			}
			if !found || !n1.Ready().Ready {
				t.Errorf("n1 is ready: %+v", n1.Ready())
			}
			// What only the other one hosts is described through the third too.
			if m, err := n1.Method(t.Context(), "of-n2", "get", time.Now().Add(hang)); err != nil || !m.ReadOnly {
				t.Errorf("%+v, %v", m, err)
			}
			cables.set(n1, n2, false)
			cables.set(n2, n1, false)
			p.until("they found together", func() bool {
				return p.member("n1", "n2").Relay == "" && p.member("n2", "n1").Relay == "" && p.member("n1", "n2").Problem == ""
			})
			everybody(2)
		})
	}
}

// Messages that nobody awaits keep their order through the cut, the detour and the way back. One that was under way when the connection broke,
// or was sent before that was known, may be missing, or late (see cluster.API.Post); of one that is missing its sender is told.
func TestTheOrderOfPostsAroundACut(t *testing.T) {
	p, cables := cabled(t, 3, nil)
	n1, n2 := p.nodes["n1"], p.nodes["n2"]
	key := ""
	for i := 0; key == ""; i++ {
		if k := "log/" + strconv.Itoa(i); p.owner("n1", k) == "n2" {
			key = k
		}
	}
	id := must(abi.ParseIdentity(key))
	var mu sync.Mutex
	failed := make(map[int]error)
	underway := make(map[int]bool)
	sent := 0
	under := make(chan struct{}, 200) // an actor's mailbox is bounded
	send := func(n int) {
		for range n {
			i := sent
			sent++
			if i%500 == 499 { // a one-way message is accepted long before its turn
				mustCall(t, n1, key, "told", "")
			}
			env := &abi.Envelope{Target: id, Method: "tell", Flags: abi.OneWay, Payload: []byte(strconv.Itoa(i)), Deadline: time.Now().Add(hang)}
			under <- struct{}{}
			mu.Lock()
			underway[i] = true
			mu.Unlock()
			note := func(_ []byte, err error) {
				<-under
				mu.Lock()
				defer mu.Unlock()
				if delete(underway, i); err != nil {
					failed[i] = err
				}
			}
			if err := n1.api.Post(env, note); err != nil {
				t.Fatal(err)
			}
		}
	}
	var cuts [][2]int // the first message that was under way at each, and the first that was sent when it was known
	for range 3 {
		send(200)
		first := sent
		mu.Lock()
		for i := range underway {
			first = min(first, i)
		}
		mu.Unlock()
		cables.set(n1, n2, true)
		cables.set(n2, n1, true)
		send(200)
		p.until("n1 goes through n3", func() bool { return p.member("n1", "n2").Relay == "n3" })
		cuts = append(cuts, [2]int{first, sent})
		send(500)
		cables.set(n1, n2, false)
		cables.set(n2, n1, false)
		for p.member("n1", "n2").Relay != "" {
			send(10)
			time.Sleep(2 * time.Millisecond) // all of it has to be in one reply
		}
		send(200)
	}
	for range cap(under) { // until the end of each is known
		under <- struct{}{}
	}
	cut := func(i int) bool {
		return slices.ContainsFunc(cuts, func(c [2]int) bool { return c[0] <= i && i < c[1] })
	}
	have := make(map[int]bool)
	last, late := -1, 0
	for _, word := range strings.Fields(mustText(t, n1, key)) {
		i := must(strconv.Atoi(word))
		if have[i] {
			t.Fatalf("%d came twice", i)
		}
		if have[i] = true; i < last {
			if late++; !cut(i) {
				t.Errorf("%d came after %d, and was not on its way at a cut", i, last)
			}
		}
		last = max(last, i)
	}
	mu.Lock()
	defer mu.Unlock()
	lost, codes := 0, make(map[abi.Code]int)
	for _, err := range failed {
		codes[abi.CodeOf(err)]++
	}
	for i := range sent {
		if !have[i] {
			if lost++; failed[i] == nil || !cut(i) {
				t.Errorf("%d did not arrive, and its sender was told %v", i, failed[i])
			}
		}
	}
	t.Logf("%d sent, %d lost, failures %v, %d late, cuts at %v", sent, lost, codes, late, cuts)
}

func mustText(t *testing.T, n *Node, key string) string {
	t.Helper()
	b, err := n.api.Request(t.Context(), must(abi.ParseIdentity(key)), cluster.Message{Method: "told", Timeout: hang})
	if err != nil {
		t.Fatal(err)
	}
	r := abi.NewReader(b)
	return r.Text()
}

// A node that starts while a pair is cut learns through the third what the other hosts, and takes no more than its share.
func TestAStartBehindACut(t *testing.T) {
	p, cables := cabled(t, 2, nil)
	n1 := p.nodes["n1"]
	cfg := p.config("n3", counting("count"))
	dial := cables.of("n3")
	cfg.Net.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == n1.LinkAddr() {
			return nil, errors.New("the cable is cut")
		}
		return dial(ctx, network, address)
	}
	n3 := p.add(cfg)
	cables.set(n1, n3, true)
	p.agree()
	p.until("each goes through n2 to the other", func() bool { // or the end of n1's connection would end a call, too
		return p.member("n1", "n3").Relay == "n2" && p.member("n3", "n1").Relay == "n2"
	})
	for i := range 200 {
		for k, n := range []*Node{n1, p.nodes["n2"], n3} {
			if got := mustCall(t, n, "count/"+strconv.Itoa(i), "add", ""); got != strconv.Itoa(k+1) {
				t.Fatalf("count/%d through %s is %s", i, n.cfg.ID, got)
			}
		}
	}
	if via := p.member("n3", "n1").Relay; via != "n2" {
		t.Errorf("n3 reaches n1 through %q", via)
	}
}

// With nobody to help, the error names the two, and those who were asked.
func TestAPairWithoutHelp(t *testing.T) {
	p, cables := cabled(t, 3, nil)
	n1, n2, n3 := p.nodes["n1"], p.nodes["n2"], p.nodes["n3"]
	for _, n := range []*Node{n1, n3} {
		cables.set(n, n2, true)
	}
	key := ""
	for i := 0; key == ""; i++ {
		if k := "count/" + strconv.Itoa(i); p.owner("n1", k) == "n2" {
			key = k
		}
	}
	want := "node n1 cannot reach node n2 at " + n2.LinkAddr() + ", and neither can n3 for it"
	p.until("the error names all", func() bool {
		_, err := n1.api.Request(t.Context(), must(abi.ParseIdentity(key)), cluster.Message{Method: "get", Timeout: time.Second})
		return abi.CodeOf(err) == abi.ErrUnreachable && strings.Contains(err.Error(), want) && strings.Contains(err.Error(), "the cable is cut")
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A node that does not reach the voter that leads keeps its session, and calls what lives there.
func TestASessionBehindACut(t *testing.T) {
	p := newParliament(t, 3)
	cables := &cables{cut: make(map[[2]string]bool), conns: make(map[[2]string][]net.Conn)}
	var cfgs []Config
	for _, id := range []string{"v1", "v2", "v3", "n4"} {
		cfgs = append(cfgs, p.seat(id, func(cfg *Config) { cfg.Net.dial = cables.of(id) }, counting("count")))
	}
	p.enter(cfgs...)
	n4 := p.nodes["n4"]
	s, _ := n4.quorum.resident.Standing()
	p.until("n4 knows who leads", func() bool { // it may have changed just now
		s, _ = n4.quorum.resident.Standing()
		return p.nodes[string(s.Leader)] != nil
	})
	leader, session := p.nodes[string(s.Leader)], s.Session
	cables.set(n4, leader, true)
	cables.set(leader, n4, true)
	p.until("n4 goes through another", func() bool { return p.member("n4", leader.cfg.ID).Relay != "" })
	// It is renewed as often as it takes to last twice a session's time longer than without.
	for began, s, end := time.Now(), s, s.Until.Add(2*core.SessionTime); s.Until.Before(end); s, _ = n4.quorum.resident.Standing() {
		if time.Since(began) > hang {
			t.Fatalf("the session is not renewed: %+v", s)
		}
		for i := range 50 {
			key := "count/" + strconv.Itoa(i)
			if _, err := n4.api.Request(t.Context(), must(abi.ParseIdentity(key)), cluster.Message{Method: "add", Timeout: hang}); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
		}
		if s, _ := n4.quorum.resident.Standing(); s.Session != session || !time.Now().Before(s.Until) {
			t.Fatalf("n4 has lost its session: %+v", s)
		}
	}
	if n := n4.net.link.Stats().RelayedOut; n == 0 {
		t.Error("nothing was relayed")
	}
}
