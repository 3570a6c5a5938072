package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// testClusterAgain: a node that is started again under its id, at once and wherever it listens, takes its own place; and none takes
// that of a node which lives.
func testClusterAgain(t *testing.T, home string) {
	r := newRealm(t, home)
	n1, n2, n3 := r.three()
	names := counters(60)
	each(names, func(_ int, name string) { n1.adds(name, 1) })
	homes := r.homes("counter")

	r.run("Twin", func(t *testing.T) {
		code, why := r.refused("n2", "--join", n3.Gossip)
		if code != abi.ErrInvalidArgument.Info().Exit || !strings.Contains(why, `the node id "n2" is in use`) ||
			!strings.Contains(why, n2.Link) || !strings.Contains(why, "--id") {
			t.Errorf("a second n2 ends with %d: %s", code, why)
		}
		r.agree()
		each(names, func(_ int, name string) { n3.adds(name, 2) })
		select {
		case <-n2.exited:
			t.Errorf("the first n2 has ended:\n%s", n2.log.String())
		default:
		}
	})

	kept := 2
	again := func(t *testing.T, flags ...string) {
		r.kill(n2)
		n2 = r.start("n2", flags...)
		// Nobody has noticed yet that the former run is dead, and no call is lost on that account.
		kept++
		each(names, func(i int, name string) {
			via, want := []*member{n1, n2, n3}[i%3], kept
			if homes[name] == "n2" {
				want = 1
			}
			via.adds(name, want)
		})
		r.agree()
		for name, home := range r.homes("counter") {
			if homes[name] != home {
				t.Errorf("%s moved from %s to %s", name, homes[name], home)
			}
		}
	}
	addrs := freeAddrs(t, 3) // that nobody else gets between its runs
	ports := []string{"--http", addrs[0], "--link", addrs[1], "--gossip", addrs[2]}
	r.run("OtherPorts", func(t *testing.T) { again(t, ports...) })
	r.run("SamePorts", func(t *testing.T) { again(t, ports...) })
	r.run("Seed", func(t *testing.T) { // the one that the others joined
		r.kill(n1)
		n1 = r.start("n1", "--join", n2.Gossip)
		r.agree()
		each(names, func(i int, name string) {
			if _, err := []*member{n1, n2, n3}[i%3].add(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		r.stop(n1)
		r.agree()
	})
}

// testClusterFrozen: a node that stands still for longer than it takes to be given up is replaced, and has its place back when it
// goes on.
func testClusterFrozen(t *testing.T, home string) {
	r := newRealm(t, home)
	n1, n2, n3 := r.three()
	names := counters(60)
	const before = 3
	each(names, func(_ int, name string) {
		for i := range before {
			n3.adds(name, i+1)
		}
	})
	homes := r.homes("counter")

	n3.signal(syscall.SIGSTOP)
	for _, m := range []*member{n1, n2} {
		r.until(m.ID+" gives n3 up", func() (bool, any) {
			state, hosts := m.state("n3"), m.hosts() // it lists n3 as failed before its own calls go elsewhere
			return state == gateway.MemberFailed && !strings.Contains(hosts, "n3"), []string{state, hosts}
		})
	}
	each(names, func(i int, name string) {
		want := before + 1
		if homes[name] == "n3" {
			want = 1
		}
		[]*member{n1, n2}[i%2].adds(name, want)
	})

	n3.signal(syscall.SIGCONT)
	r.agree()
	r.settle("counter", names)
	var stale atomic.Int64
	each(names, func(i int, name string) {
		first, err := n3.add(name)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case homes[name] == "n3" && first == before+1:
			stale.Add(1)
		case homes[name] == "n3" && first > 2 || homes[name] != "n3" && first != before+2:
			t.Errorf("%s of %s counts to %d", name, homes[name], first)
		}
		n1.adds(name, first+1)
		n2.adds(name, first+2)
	})
	if n := stale.Load(); n > 0 {
		t.Errorf("%d actors are as they were when their node stood still", n)
	}
	for name, home := range r.homes("counter") {
		if homes[name] != home {
			t.Errorf("%s moved from %s to %s", name, homes[name], home)
		}
	}
	r.stop(n3)
}

// testClusterMerged: two clusters with the same actors become one when a node joins both. Which of two lives of an actor goes on is
// not promised; that one does, and only one, is.
func testClusterMerged(t *testing.T, home string) {
	r, other := newRealm(t, home), newRealm(t, home)
	other.name = r.name
	n1, n2 := r.start("n1"), other.start("n2")
	names := counters(60)
	each(names, func(_ int, name string) {
		n1.adds(name, 1)
		for i := range 3 {
			n2.adds(name, i+1)
		}
	})
	n3 := r.start("n3", "--join", n2.Gossip)
	r.up["n2"] = n2
	r.agree()
	r.settle("counter", names)
	each(names, func(_ int, name string) {
		first, err := n3.add(name)
		if err != nil || first != 1 && first != 2 && first != 4 {
			t.Errorf("%s: %d, %v", name, first, err)
		}
		n1.adds(name, first+1)
		n2.adds(name, first+2)
	})
	if homes := r.homes("counter"); len(homes) != len(names) {
		t.Errorf("%d actors live, of %d", len(homes), len(names))
	}

	// All go at once, with nobody left to take over.
	for _, m := range r.up {
		m.signal(syscall.SIGTERM)
	}
	for _, m := range r.up {
		if code := m.exit(); code != 0 {
			t.Errorf("%s leaves with exit code %d:\n%s", m.ID, code, m.log.String())
		}
	}
}

// settle waits until no actor is left where it does not belong any more: those of a node that was given up end when it is back, and those
// that others host end after what waits for them. Each then is the same through every node, for one that is to end still answers its own.
func (r *realm) settle(kind string, names []string) {
	r.t.Helper()
	r.until("each actor lives once", func() (bool, any) {
		n := 0
		lives := make(map[string]string)
		for id, m := range r.up {
			for _, actor := range m.hosted(kind) {
				n++
				if other := lives[actor]; other != "" {
					return false, actor + " lives on " + other + " and on " + id
				}
				lives[actor] = id
			}
		}
		if n > len(names) {
			return false, strconv.Itoa(n) + " activations of " + strconv.Itoa(len(names)) + " actors"
		}
		for actor, home := range lives {
			want := r.up[home].peek(actor)
			for id, m := range r.up {
				if got := m.peek(actor); got != want || got == "" {
					return false, fmt.Sprintf("%s lives on %s, which gets %q of it, and %s gets %q", actor, home, want, id, got)
				}
			}
		}
		return true, nil
	})
}

// peek returns what a counter counts to, "" if it has begun nowhere, as far as m sees. It may sleep by now.
func (m *member) peek(actor string) string {
	id, err := abi.ParseIdentity(actor)
	if err != nil {
		m.r.t.Fatal(err)
	}
	out, err := m.http.CallJSON(m.r.all.Context(), id, "get", nil, client.CallOptions{Flags: abi.MustExist})
	if err != nil {
		return ""
	}
	return string(out)
}
