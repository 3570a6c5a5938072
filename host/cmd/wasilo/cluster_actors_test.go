package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// testClusterActors: actors on different nodes call and tell each other as on one.
func testClusterActors(t *testing.T, home string) {
	r := newRealm(t, home)
	r.three("--actors", r.modules("examples.wasm", "probe.wasm"))
	r.run("Bank", func(t *testing.T) { transfers(t, r) })
	r.run("Chat", func(t *testing.T) { chats(t, r) })
	r.run("Tells", func(t *testing.T) { tells(t, r) })
	r.run("Deadlock", func(t *testing.T) { deadlocks(t, r) })
	r.run("Deadline", func(t *testing.T) { deadlines(t, r) })
	r.run("Lost", func(t *testing.T) { losesAccounts(t, r) })
}

// oneEach starts actors of a kind until each node has one, and returns those: [i] lives on node n<i+1>.
func (r *realm) oneEach(kind, method, prefix string) (actors [3]string) {
	r.t.Helper()
	for i := 0; i < 60 && (actors[0] == "" || actors[1] == "" || actors[2] == ""); i++ {
		actor := fmt.Sprintf("%s/%s%d", kind, prefix, i)
		r.up["n1"].must(actor, method, "")
		if at := int(r.homes(kind)[actor][1] - '1'); actors[at] == "" {
			actors[at] = actor
		}
	}
	return actors
}

// field reads one field of a reply.
func field[T any](t *testing.T, reply, name string) (v T) {
	t.Helper()
	var fields map[string]json.RawMessage
	err := json.Unmarshal([]byte(reply), &fields)
	if err == nil {
		err = json.Unmarshal(fields[name], &v)
	}
	if err != nil {
		t.Errorf("the field %s of %s: %v", name, reply, err)
	}
	return v
}

// transfers: money goes around between accounts on three nodes, through three nodes, and none is made or lost.
func transfers(t *testing.T, r *realm) {
	accounts := r.oneEach("bank", "balance", "a")
	for _, a := range accounts {
		r.up["n1"].must(a, "deposit", `{"amount":100}`)
	}
	var callers sync.WaitGroup
	for c := range 6 {
		callers.Go(func() {
			via := r.up[fmt.Sprint("n", c%3+1)]
			for i := range 40 {
				from, to := accounts[(c+i)%3], accounts[(c+2*i+1)%3]
				_, err := via.call(from, "transfer", fmt.Sprintf(`{"to":%q,"amount":%d}`, strings.TrimPrefix(to, "bank/"), 1+i%30))
				if err != nil && abi.AsError(err).App != "insufficient_funds" {
					t.Errorf("%s to %s through %s: %v", from, to, via.ID, err)
				}
			}
		})
	}
	callers.Wait()
	sum := 0
	for i, a := range accounts {
		balance := field[int](t, r.up[fmt.Sprint("n", (i+1)%3+1)].must(a, "balance", ""), "balance")
		if sum += balance; balance < 0 {
			t.Errorf("%s has %d", a, balance)
		}
	}
	if sum != 300 {
		t.Errorf("there are %d, not 300", sum)
	}
}

// losesAccounts: money goes around while a node is lost. What was there is lost, and none is made.
func losesAccounts(t *testing.T, r *realm) {
	accounts := make([]string, 30)
	before := 0
	for i := range accounts {
		accounts[i] = fmt.Sprint("bank/l", i)
		before += field[int](t, r.up["n1"].must(accounts[i], "deposit", `{"amount":100}`), "balance")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls, doubts atomic.Int64
	var callers sync.WaitGroup
	for c := range 4 {
		via := r.up[fmt.Sprint("n", c%2+1)]
		callers.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				from, to := accounts[7*i%len(accounts)], accounts[(11*i+1)%len(accounts)]
				_, err := via.call(from, "transfer", fmt.Sprintf(`{"to":%q,"amount":%d}`, strings.TrimPrefix(to, "bank/"), 1+i%30))
				calls.Add(1)
				switch e := abi.AsError(err); {
				case err == nil || e.App == "insufficient_funds" || e.Code.Retryable():
				case e.App == "in_doubt" || e.Code == abi.ErrOutcomeUnknown || e.Code == abi.ErrTimeout:
					doubts.Add(1)
				default:
					t.Errorf("%s to %s: %v", from, to, err)
				}
			}
		})
	}
	more := func() {
		last := calls.Load()
		r.until("transfers go on", func() (bool, any) { return calls.Load() > last+200, nil })
	}
	more()
	r.kill(r.up["n3"])
	r.agree()
	more()
	cancel()
	callers.Wait()
	after := 0
	for _, a := range accounts {
		after += field[int](t, r.up["n2"].must(a, "balance", ""), "balance")
	}
	if after > before || after < before/3 {
		t.Errorf("there were %d, and are %d after a node of three was lost", before, after)
	}
	t.Logf("%d transfers, %d in doubt", calls.Load(), doubts.Load())
}

// chats: everybody's posts, each through another node, are in every room once and in their order.
func chats(t *testing.T, r *realm) {
	rooms := r.oneEach("chat", "history", "room")
	var members sync.WaitGroup
	for id, via := range r.up {
		members.Go(func() {
			for _, room := range rooms {
				if _, err := via.call(room, "join", fmt.Sprintf(`{"member":%q}`, id)); err != nil {
					t.Error(err)
				}
			}
			for i := range 20 {
				for _, room := range rooms {
					if _, err := via.call(room, "post", fmt.Sprintf(`{"from":%q,"text":"%d"}`, id, i)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	members.Wait()
	type message struct{ From, Text string }
	for _, room := range rooms {
		seen := ""
		for _, via := range r.up {
			history := via.must(room, "history", "")
			if seen == "" {
				seen = history
			}
			if history != seen {
				t.Errorf("%s through %s is %s, and through another node %s", room, via.ID, history, seen)
			}
		}
		next := map[string]int{}
		for _, m := range field[[]message](t, seen, "messages") {
			if m.Text != fmt.Sprint(next[m.From]) {
				t.Errorf("in %s, %s said %s after %d", room, m.From, m.Text, next[m.From])
			}
			next[m.From]++
		}
		if len(next) != 3 || next["n1"] != 20 || next["n2"] != 20 || next["n3"] != 20 {
			t.Errorf("%s has %v", room, next)
		}
	}
}

// note is what a probe was told, with who told it.
type note struct{ From, Text string }

// tells: messages without a reply arrive on the other node, once each and in the order of their sender.
func tells(t *testing.T, r *realm) {
	p := r.oneEach("probe", "self", "t")
	const n = 50
	for _, from := range p[1:] {
		r.up["n1"].must(from, "tells", fmt.Sprintf(`{"to":%q,"n":%d}`, p[0], n))
	}
	var got []note
	r.until("all that was told arrives", func() (bool, any) {
		got = field[[]note](t, r.up["n3"].must(p[0], "notes", ""), "notes")
		return len(got) >= 2*n, got
	})
	next := map[string]int{}
	for _, m := range got {
		if m.Text != fmt.Sprint(next[m.From]) {
			t.Errorf("%s told %s after %d", m.From, m.Text, next[m.From])
		}
		next[m.From]++
	}
	if len(got) != 2*n || next[p[1]] != n || next[p[2]] != n {
		t.Errorf("told %v", next)
	}
	// Effects with replies, from one node to another and back.
	if got := r.up["n2"].must(p[2], "fanout", fmt.Sprintf(`{"to":%q,"n":%d}`, p[1], n)); got != fmt.Sprintf(`{"n":%d}`, n) {
		t.Error(got)
	}
	if got := r.up["n2"].must(p[2], "then", fmt.Sprintf(`{"to":%q,"method":"echo","params":"there"}`, p[0])); got != `"there"` {
		t.Error(got)
	}
	_, err := r.up["n2"].call(p[2], "call", fmt.Sprintf(`{"to":%q,"method":"panic","params":{"text":"ouch"}}`, p[0]))
	if abi.AsError(err).App != "trap" {
		t.Errorf("what another node's actor died of: %v", err)
	}
}

// deadlocks: actors that would wait for each other in a circle that spans nodes are told so at once.
func deadlocks(t *testing.T, r *realm) {
	p := r.oneEach("probe", "self", "d")
	to := func(actor, method, params string) string {
		return fmt.Sprintf(`{"to":%q,"method":%q,"params":%s}`, actor, method, params)
	}
	// A on n1 waits for B on n2, which asks A; and once around three nodes.
	for _, params := range []string{
		to(p[1], "call", to(p[0], "self", "{}")),
		to(p[1], "call", to(p[2], "call", to(p[0], "self", "{}"))),
	} {
		began := time.Now()
		_, err := r.up["n3"].call(p[0], "call", params)
		if abi.CodeOf(err) != abi.ErrDeadlock || !strings.Contains(err.Error(), p[0]) || !strings.Contains(err.Error(), p[1]) {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	}
	// A and B are in a turn each, at a gate, when they ask each other: one is told, or both, and nobody waits for his time to end.
	errs := make([]error, 2)
	var callers sync.WaitGroup
	for i := range errs {
		callers.Go(func() {
			_, errs[i] = r.up["n3"].call(p[i], "sequence", fmt.Sprintf(`{"calls":[%s,%s]}`,
				to(fmt.Sprint("probe/gate", i), "defer", `{"name":"gate"}`), to(p[1-i], "self", "{}")))
		})
	}
	for i := range errs {
		r.until(p[i]+" is in its turn", func() (bool, any) {
			at, err := r.up[fmt.Sprint("n", i+1)].http.Actors(t.Context(), client.ActorsQuery{Kind: "probe", Limit: gateway.MaxPage})
			return err == nil && slices.ContainsFunc(at.Actors, func(a gateway.ActorInfo) bool {
				return "probe/"+a.ID == p[i] && a.State == gateway.ActorRunning
			}), err
		})
	}
	for i := range errs {
		r.until("the gate opens", func() (bool, any) {
			n := field[int](t, r.up["n3"].must(fmt.Sprint("probe/gate", i), "release", `{"name":"gate","value":null}`), "released")
			return n == 1, n
		})
	}
	callers.Wait()
	told := 0
	for _, err := range errs {
		if abi.CodeOf(err) == abi.ErrDeadlock {
			told++
		} else if err != nil {
			t.Error(err)
		}
	}
	if told == 0 {
		t.Error("nobody was told of the deadlock")
	}
	for _, actor := range p {
		r.up["n2"].must(actor, "self", "")
	}
}

// deadlines: the time of a call is that of all calls behind it, on whatever nodes.
func deadlines(t *testing.T, r *realm) {
	p := r.oneEach("probe", "self", "d")
	const short = time.Minute // less than a turn may take here
	for _, c := range []struct{ actor, method, params string }{
		{p[1], "self", "{}"},
		{p[1], "call", fmt.Sprintf(`{"to":%q,"method":"self","params":{}}`, p[2])},
	} {
		out, err := r.up["n1"].callFor(c.actor, c.method, c.params, short)
		if err != nil {
			t.Fatal(err)
		}
		if left := field[int64](t, out, "remaining_ms"); left <= 0 || left > short.Milliseconds() {
			t.Errorf("%s %s: the actor has %d ms left of %v", c.actor, c.method, left, short)
		}
	}
	began := time.Now()
	_, err := r.up["n1"].callFor(p[1], "call", fmt.Sprintf(`{"to":%q,"method":"defer","params":{"name":"never"}}`, p[2]),
		200*time.Millisecond)
	if abi.CodeOf(err) != abi.ErrTimeout {
		t.Errorf("an actor that never answers, through two nodes: %v after %v", err, time.Since(began))
	}
	r.up["n1"].must(p[1], "self", "") // it does not wait any more
}
