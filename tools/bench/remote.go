package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/link/ca"
	"github.com/wasilo/wasilo/serfwatch"
)

const remoteNote = "Two processes over loopback: the callers are in this one, the actors in the other; CPU is that of both. `native` and `wasm` are\n" +
	"requests through the API of a node that hosts nothing (`host.Node.Send`) to actors of another one: PID cache, link with mutual\n" +
	"TLS 1.3, the other node's cache, mailbox, turn, and back. `link` is host/link alone, with a handler that echoes. The floors have\n" +
	"neither TLS nor envelopes nor deadlines: frames pipelined over one connection, whose writer takes what has accumulated, and a\n" +
	"connection for each caller, which waits in its read. Throughput and CPU are compared with the pipelined floor, p50 with the blocking."

// manyActors is how many there are where one does not take all requests.
const manyActors = 10_000

func remoteCases(ctx context.Context, b *bench) ([]*measure, error) {
	dir, err := b.tempDir()
	if err != nil {
		return nil, err
	}
	r := &remote{b: b, base: spec{CA: filepath.Join(dir, "ca"), Dir: dir, Profile: serfwatch.Fast},
		payload: abi.AppendBytes(nil, make([]byte, payloadSize-2))} // with its head of two bytes
	if _, err := ca.Init(r.base.CA, ca.Options{}); err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	var rows []*measure
	for _, callers := range []int{1, 64, 1024} {
		group, err := r.group(ctx, callers)
		if err != nil {
			return nil, err
		}
		rows = append(rows, group...)
	}
	return rows, nil
}

// remote is what the cases call.
type remote struct {
	b                         *bench
	base                      spec
	payload                   []byte
	floor, link, native, wasm *process
	target                    cluster.Target // the link alone
	node                      *host.Node     // of this process
	natives, echoes           []abi.Identity
}

func (r *remote) start(ctx context.Context) (err error) {
	begin := func(role, id, join, fixture string) (*process, error) {
		s := r.base
		s.Role, s.ID, s.Join, s.Fixture = role, id, join, fixture
		return startProcess(ctx, r.b, s)
	}
	if r.floor, err = begin(roleFloor, "floor", "", ""); err != nil {
		return err
	}
	if r.link, err = begin(roleLink, "link", "", ""); err != nil {
		return err
	}
	// The hosts are two processes, so that a native actor's host has no other's heap.
	if r.native, err = begin(roleNode, "native", "", ""); err != nil {
		return err
	}
	if r.wasm, err = begin(roleNode, "wasm", r.native.at.Gossip, "echo.wasm"); err != nil {
		return err
	}
	if err := r.dialLink(ctx); err != nil {
		return err
	}
	s := r.base
	s.ID, s.Join = "caller", r.native.at.Gossip
	if r.node, err = openNode(&s, cluster.Client); err != nil {
		return err
	}
	if err := r.b.keep(ctx, r.node); err != nil {
		return err
	}
	if err := until(ctx, "the nodes know each other", func() (bool, error) {
		hosts := ""
		for _, k := range r.node.Kinds() {
			hosts += fmt.Sprint(k.Name, k.Nodes)
		}
		return hosts == "echo[wasm]named[native]native[native]", nil
	}); err != nil {
		return err
	}
	r.natives, r.echoes = identities(echoKind, manyActors), identities("echo", manyActors)
	for _, id := range slices.Concat(r.natives, r.echoes) { // activated before anything is measured
		if err := request(ctx, r.node, id, "echo", r.payload); err != nil {
			return err
		}
	}
	return nil
}

func (r *remote) dialLink(ctx context.Context) error {
	s := r.base
	s.ID = "dialler"
	l, ln, err := openLink(&s, echoHandler{})
	if err != nil {
		return err
	}
	r.b.onEnd(func() {
		ln.Close()
		hurry, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = l.Shutdown(hurry) // nothing is under way
	})
	r.target, err = l.Target(cluster.Node{ID: cluster.NodeID(r.link.ID), Authority: r.link.at.Addr})
	return err
}

func (r *remote) group(ctx context.Context, callers int) ([]*measure, error) {
	p, err := dialPipelined(ctx, r.floor.at.Addr, callers)
	if err != nil {
		return nil, err
	}
	r.b.onEnd(p.close)
	conns, err := dialBlocking(ctx, r.floor.at.Addr, callers)
	if err != nil {
		return nil, err
	}
	r.b.onEnd(conns.close)
	floor := []*process{r.floor}
	pipe := &measure{name: "floor pipelined TCP", callers: callers, others: floor, op: func(_ context.Context, c, _ int) error {
		p.call(c, r.payload)
		return nil
	}}
	wait := &measure{name: "floor blocking TCP", callers: callers, others: floor, op: func(_ context.Context, c, _ int) error {
		return conns.call(c, r.payload)
	}}
	rows := []*measure{pipe, wait}
	add := func(name string, there *process, op func(ctx context.Context, c, i int) error) {
		rows = append(rows, &measure{name: name, callers: callers, others: []*process{there}, floor: pipe, waitFloor: wait, op: op})
	}
	id := r.natives[0]
	add("link", r.link, func(ctx context.Context, _, _ int) error {
		_, err := r.target.Deliver(ctx, &abi.Envelope{Target: id, Method: "echo", Payload: r.payload, Deadline: time.Now().Add(10 * time.Second)})
		return err
	})
	node := func(name string, there *process, ids []abi.Identity) {
		add(name, there, func(ctx context.Context, c, i int) error {
			return request(ctx, r.node, ids[(c*7919+i)%len(ids)], "echo", r.payload)
		})
	}
	node("native, 1 actor", r.native, r.natives[:1])
	node("wasm, 1 actor", r.wasm, r.echoes[:1])
	node("native, 10,000 actors", r.native, r.natives)
	node("wasm, 10,000 actors", r.wasm, r.echoes)
	return rows, nil
}

// until waits for what gossip brings about.
func until(ctx context.Context, what string, ok func() (bool, error)) error {
	const limit = 2 * time.Minute
	for began := time.Now(); ; {
		if done, err := ok(); done || err != nil {
			return err
		}
		if time.Since(began) > limit {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// What the remote path is to reach.
const (
	targetCPU  = 7.0 // µs of both processes, one actor, 1,024 callers
	targetWait = 2.0 // p50 at 1 caller, of that of the blocking floor
)

// remoteTargets says how far the remote path is from what it is to reach.
func remoteTargets(rows []*measure) string {
	var doc strings.Builder
	doc.WriteString("\nWhat the whole path, to a native actor, is to reach:\n\n| what | aim | reached | |\n|---|---|---|---|\n")
	line := func(what, aim string, got []float64, most float64) {
		verdict := "**missed**"
		if median(got) <= most {
			verdict = "met"
		}
		fmt.Fprintf(&doc, "| %s | %s | %s | %s |\n", what, aim, spread(got), verdict)
	}
	for _, m := range rows {
		switch {
		case m.name == "native, 1 actor" && m.callers == 1024:
			line("CPU of both processes, 1 actor, 1,024 callers", fmt.Sprintf("≤ %.0f µs", targetCPU), m.cpu, targetCPU)
		case m.name == "native, 1 actor" && m.callers == 1:
			line("p50, 1 actor, 1 caller, of the blocking floor", fmt.Sprintf("≤ %.0f", targetWait), ratios(m.p50, m.waitFloor.p50), targetWait)
		}
	}
	return doc.String()
}
