package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway/client"
	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// Kinds of the guest.
const (
	volatileKind   = "register"
	hibernatedKind = "register_h"
)

// hibernates tells the kinds apart by the name of an actor.
func hibernates(actor string) bool { return strings.HasPrefix(actor, hibernatedKind+"/") }

// load is clients that ask registers through the gateways of all nodes, and write down what came of it.
type load struct {
	nodes    []*node
	actors   []abi.Identity
	deadline time.Duration
	seed     uint64

	requests atomic.Uint64
	work     sync.WaitGroup
	mu       sync.Mutex
	ops      []verdict.Op
}

// newLoad names the registers: of each four, one hibernates.
func newLoad(nodes []*node, registers int, deadline time.Duration, seed uint64) (*load, error) {
	l := &load{nodes: nodes, deadline: deadline, seed: seed}
	for i := range registers {
		kind := volatileKind
		if i%4 == 3 {
			kind = hibernatedKind
		}
		id, err := abi.NewIdentity(kind, fmt.Sprintf("r%d", i))
		if err != nil {
			return nil, err
		}
		l.actors = append(l.actors, id)
	}
	return l, nil
}

// caller is one client.
type caller struct {
	*load
	number  int
	gateway int
	pinned  bool // it stays with its gateway
	probe   bool // it only reads, through its gateway, and does not try again: for the picture
	rng     *rand.Rand
	last    map[abi.Identity]string // values seen, for swaps that succeed
	writes  int
	ops     []verdict.Op
}

func (l *load) caller(number int) *caller {
	return &caller{load: l, number: number, gateway: number % len(l.nodes), rng: rand.New(rand.NewPCG(l.seed, uint64(number)+1)),
		last: make(map[abi.Identity]string)}
}

// run starts clients, which ask nothing more once stop is closed; wait waits for what they still wait for. ctx ends that too.
func (l *load) run(ctx context.Context, stop <-chan struct{}, p plan) {
	for i := range p.clients {
		c := l.caller(i)
		c.pinned = i < p.pinned
		l.work.Go(func() { c.loop(ctx, stop, time.Duration(float64(p.clients)/p.rate*float64(time.Second))) })
	}
	// Ten a node, since each waits for its answer: about ten requests a second, whatever becomes of them.
	for i := range 10 * len(l.nodes) {
		c := l.caller(p.clients + i)
		c.gateway, c.pinned, c.probe = i%len(l.nodes), true, true
		l.work.Go(func() { c.loop(ctx, stop, time.Second) })
	}
}

// probeTime is the deadline of a probe.
const probeTime = time.Second

func (l *load) wait() { l.work.Wait() }

// sweep reads every register once, through any gateway, so that what the run left behind is part of the history.
func (l *load) sweep(ctx context.Context) {
	const readers = 8
	for r := range readers {
		c := l.caller(1000 + r)
		l.work.Go(func() {
			defer c.done()
			for i := r; i < len(l.actors) && ctx.Err() == nil; i += readers {
				c.request(ctx, l.actors[i], verdict.Op{Do: verdict.Read})
			}
		})
	}
	l.work.Wait()
}

func (c *caller) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load.ops = append(c.load.ops, c.ops...)
}

// loop sends a request every so often, or as fast as answers come if they take longer.
func (c *caller) loop(ctx context.Context, stop <-chan struct{}, every time.Duration) {
	defer c.done()
	wait := time.NewTimer(time.Duration(c.rng.Int64N(int64(every))))
	defer wait.Stop()
	for {
		select {
		case <-stop:
			return
		case <-wait.C:
		}
		wait.Reset(every*3/4 + time.Duration(c.rng.Int64N(int64(every)/2+1)))
		actor := c.actors[c.rng.IntN(len(c.actors))]
		c.request(ctx, actor, c.choose(actor))
	}
}

// choose makes a request: half read, the others write what nobody has written before.
func (c *caller) choose(actor abi.Identity) verdict.Op {
	n := c.rng.IntN(10)
	if c.probe || n < 5 {
		return verdict.Op{Do: verdict.Read}
	}
	c.writes++
	o := verdict.Op{Do: verdict.Write, New: fmt.Sprintf("c%d.%d", c.number, c.writes)}
	if n >= 8 {
		o.Do, o.Old = verdict.Cas, c.last[actor]
	}
	return o
}

// request tries until the request is answered, its time is over, or nobody knows whether it was carried out. A client
// that is not pinned goes to another gateway when its own refuses.
func (c *caller) request(ctx context.Context, actor abi.Identity, o verdict.Op) {
	o.Client, o.Request, o.Probe, o.Actor = c.number, c.requests.Add(1), c.probe, actor.Key()
	end := time.Now().Add(c.deadline)
	if c.probe {
		end = time.Now().Add(probeTime)
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		try := c.try(ctx, actor, o, time.Until(end))
		if ctx.Err() != nil && try.Outcome != verdict.OK && try.Outcome != verdict.Refused {
			try.Outcome = verdict.Unknown // the run ends
		}
		c.ops = append(c.ops, try)
		if try.Outcome == verdict.OK {
			c.last[actor] = try.Value
		}
		if try.Outcome != verdict.Refused || c.probe {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause + time.Duration(c.rng.Int64N(int64(pause)))):
		}
		if !c.pinned {
			c.move(ctx)
		}
		if time.Until(end) < 10*time.Millisecond {
			return
		}
	}
}

// move goes to the next gateway that says it is ready; if none does, it stays.
func (c *caller) move(ctx context.Context) {
	for i := 1; i <= len(c.nodes); i++ {
		next := (c.gateway + i) % len(c.nodes)
		if c.nodes[next].isReady(ctx, 200*time.Millisecond) == nil {
			c.gateway = next
			return
		}
	}
}

// answer is what the guest answers.
type answer struct {
	Value string    `json:"value"`
	Epoch [2]uint64 `json:"epoch"`
	N     uint64    `json:"n"`
	Began string    `json:"began"`
}

// answered is how much longer than the request's own time its answer is waited for, so that a late one says what happened.
const answered = 500 * time.Millisecond

func (c *caller) try(ctx context.Context, actor abi.Identity, o verdict.Op, left time.Duration) verdict.Op {
	n := c.nodes[c.gateway]
	o.Gateway = n.id
	ctx, cancel := context.WithTimeout(ctx, left+answered)
	defer cancel()
	var in any
	switch o.Do {
	case verdict.Write:
		in = map[string]string{"value": o.New}
	case verdict.Cas:
		in = map[string]string{"old": o.Old, "new": o.New}
	}
	var out answer
	o.Call = turnlog.Monotonic()
	err := n.http.Call(ctx, actor, o.Do, in, &out, client.CallOptions{Timeout: left})
	o.Return = turnlog.Monotonic()
	if err == nil {
		o.Outcome, o.Value, o.N, o.Began = verdict.OK, out.Value, out.N, out.Began
		o.Generation, o.Index = uint32(out.Epoch[0]), out.Epoch[1]
		return o
	}
	o.Outcome, o.Code, o.Error = outcome(err), abi.CodeOf(err).String(), err.Error()
	return o
}

// outcome is what an error says about the request.
func outcome(err error) string {
	code := abi.CodeOf(err)
	switch {
	case code.Retryable():
		return verdict.Refused
	case code == abi.ErrTimeout, code == abi.ErrCanceled, code == abi.ErrOutcomeUnknown:
		return verdict.Unknown
	}
	var coded *abi.Error
	if code == abi.ErrInternal && errors.As(err, &coded) && strings.Contains(coded.Message, "broke, the outcome is unknown") {
		return verdict.Unknown // the gateway's process ended
	}
	return verdict.Failed
}
