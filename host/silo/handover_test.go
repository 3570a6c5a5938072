package silo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

// A kind whose module is replaced between an activation and its start costs nobody anything: calls and one-way messages
// go to the new version, in order and once.
func TestAReplacedKindIsNoFailure(t *testing.T) {
	n := newNode(t, nil)
	replaced := false
	n.start = func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if replaced = !replaced; replaced { // every other start
			return abi.NewError(abi.ErrOwnershipChanged, "the module was replaced")
		}
		return nil
	}
	var mu sync.Mutex
	last := map[string]int{}
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		out.Kind, out.Payload = abi.OutReply, ev.Payload
		if ev.Tag != abi.EventMessage {
			return nil
		}
		var sender, seq int
		fmt.Sscan(string(ev.Payload), &sender, &seq)
		key := fmt.Sprint(h.Identity().ID(), " ", sender)
		mu.Lock()
		defer mu.Unlock()
		if seq != last[key]+1 {
			t.Errorf("%s: %d after %d", key, seq, last[key])
		}
		last[key] = seq
		return nil
	}
	var wg sync.WaitGroup
	const actors, each = 5, 60
	for sender := range 4 {
		wg.Go(func() {
			for i := range each {
				name := numbered("a", i%actors)
				env := n.env(name, "m", fmt.Sprint(sender, " ", i/actors+1))
				env.Flags = abi.OneWay
				if _, err := n.api.Send(t.Context(), env); err != nil {
					t.Error(err)
				}
				if got, err := n.call(name, "m", "x"); err != nil || got != "x" {
					t.Errorf("%q, %v", got, err)
				}
				if i%10 == 9 {
					n.silo.PassivateIdle(t.Context())
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for sender := range 4 {
		for a := range actors {
			if got := last[fmt.Sprint(numbered("a", a), " ", sender)]; got != each/actors {
				t.Errorf("actor %d had %d messages of %d, want %d", a, got, sender, each/actors)
			}
		}
	}
	if f := n.kind.Counters.StartFailures.Load(); f != 0 {
		t.Errorf("%d failed starts", f)
	}
}

// A backlog that finds no successor is answered, and what nobody would hear of is logged.
func TestABacklogWithoutASuccessorIsAnswered(t *testing.T) {
	var log lines
	n := newNode(t, func(c *Config, k *Kind) { c.Log = log.logger() })
	gate, entered := make(chan struct{}), make(chan struct{})
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		close(entered)
		<-gate
		n.mu.Lock()
		defer n.mu.Unlock()
		n.kindErr = abi.NewError(abi.ErrUnknownKind, "the file is gone")
		return abi.NewError(abi.ErrTrap, "boom")
	}
	results := make(chan error, 3)
	post := func(flags abi.Flags) {
		env := n.env("a", "m", "")
		env.Flags = flags
		done := func(_ []byte, err error) { results <- err }
		if flags != 0 {
			done = nil
		}
		if err := n.api.Post(env, done); err != nil {
			t.Fatal(err)
		}
	}
	post(0)
	<-entered
	post(0)
	post(abi.OneWay)
	post(0)
	close(gate)
	codes := map[abi.Code]int{}
	for range 3 {
		codes[abi.CodeOf(<-results)]++
	}
	if codes[abi.ErrTrap] != 1 || codes[abi.ErrUnknownKind] != 2 {
		t.Errorf("%v", codes)
	}
	n.close()
	if s := log.String(); !strings.Contains(s, "one-way messages were lost") || !strings.Contains(s, "messages=1") {
		t.Errorf("log %s", s)
	}
}

// lines is a log that a test looks into.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// elsewhere is an API whose actors live on another node: nothing is activated here.
type elsewhere struct {
	API
	posted []string
}

func (e *elsewhere) Get(context.Context, abi.Identity) (cluster.ActorRef, error) {
	return cluster.ActorRef{}, nil
}

func (e *elsewhere) Post(env *abi.Envelope, done func([]byte, error)) error {
	e.posted = append(e.posted, string(env.Payload))
	switch {
	case string(env.Payload) == "bad":
		return errors.New("refused")
	case done != nil:
		done(nil, nil)
	}
	return nil
}

// A successor that lives on another node gets the backlog by the ordinary way.
func TestABacklogFollowsItsActorElsewhere(t *testing.T) {
	n := newNode(t, nil)
	away := &elsewhere{}
	s := New(n.silo.cfg)
	s.Open(away)
	gate, entered := make(chan struct{}), make(chan struct{})
	n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		close(entered)
		<-gate
		return abi.NewError(abi.ErrTrap, "boom")
	}
	req := activation("a")
	req.Observer = &recorder{}
	target, err := s.Activate(req)
	if err != nil {
		t.Fatal(err)
	}
	var done atomic.Int32
	post := func(payload string) {
		if err := target.Post(n.env("a", "m", payload), func([]byte, error) { done.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	post("trap")
	<-entered
	for _, p := range []string{"x", "bad", "y"} {
		post(p)
	}
	close(gate)
	waitFor(t, func() bool { return done.Load() == 4 })
	s.Close()
	if got := strings.Join(away.posted, " "); got != "x bad y" {
		t.Errorf("posted %q", got)
	}
}

// shortLived is an API whose first successor ends before its caller hears of it.
type shortLived struct {
	elsewhere
	s       *Silo
	gets    atomic.Int32
	release chan struct{}
}

func (b *shortLived) Get(context.Context, abi.Identity) (cluster.ActorRef, error) {
	first := b.gets.Add(1) == 1
	if !first {
		<-b.release
	}
	req := activation("a")
	req.Observer = &recorder{}
	if _, err := b.s.Activate(req); err != nil {
		return cluster.ActorRef{}, err
	}
	if e := b.s.entry(id("a")); first && e != nil {
		<-e.gone
	}
	return cluster.ActorRef{}, nil
}

// A successor that ends at once leaves the backlog to its own successor: sent anew it would come after what is sent meanwhile.
func TestABacklogWaitsForTheSuccessorOfASuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		s := New(n.silo.cfg)
		api := &shortLived{s: s, release: make(chan struct{})}
		s.Open(api)
		defer s.Close()
		var starts atomic.Int32
		n.start = func() error {
			if starts.Add(1) == 2 {
				return abi.NewError(abi.ErrOwnershipChanged, "replaced")
			}
			return nil
		}
		gate, entered := make(chan struct{}), make(chan struct{})
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			if string(ev.Payload) == "trap" {
				close(entered)
				<-gate
				return abi.NewError(abi.ErrTrap, "boom")
			}
			out.Kind = abi.OutReply
			return nil
		}
		req := activation("a")
		req.Observer = &recorder{}
		target, err := s.Activate(req)
		if err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		if err := target.Post(n.env("a", "m", "trap"), nil); err != nil {
			t.Fatal(err)
		}
		<-entered
		if err := target.Post(n.env("a", "m", "waits"), func(_ []byte, err error) { waits <- err }); err != nil {
			t.Fatal(err)
		}
		close(gate)
		synctest.Wait()
		if len(api.posted) > 0 || len(waits) > 0 {
			t.Errorf("%q was sent anew, %d were answered", api.posted, len(waits))
		}
		close(api.release)
		if err := <-waits; err != nil {
			t.Error(err)
		}
	})
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !ok(); <-tick.C {
		if time.Since(began) > time.Minute {
			t.Fatal("not within a minute")
		}
	}
}
