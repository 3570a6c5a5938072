package link

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

func services(s map[string]Service) func(*Config) { return func(c *Config) { c.Services = s } }

func TestAsk(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", services(map[string]Service{
		"who": func(_ context.Context, from cluster.NodeID, payload []byte) ([]byte, error) {
			return append([]byte(from+" asks "), payload...), nil
		},
		"echo": func(_ context.Context, _ cluster.NodeID, payload []byte) ([]byte, error) { return payload, nil },
		"time": func(ctx context.Context, _ cluster.NodeID, _ []byte) ([]byte, error) {
			at, ok := ctx.Deadline()
			if left := time.Until(at); !ok || left > 10*time.Minute || left < 5*time.Minute {
				t.Errorf("%s are left of 10 minutes", left)
			}
			return nil, nil
		},
		"error": func(_ context.Context, _ cluster.NodeID, _ []byte) ([]byte, error) {
			return nil, &abi.Error{Code: abi.ErrUnknownKind, Message: "no such kind"}
		},
		"panic": func(context.Context, cluster.NodeID, []byte) ([]byte, error) { panic("a defect") },
		"large": func(context.Context, cluster.NodeID, []byte) ([]byte, error) { return make([]byte, 3<<20), nil },
	}))
	ask := func(service string, payload []byte) ([]byte, error) {
		return a.Ask(patient(t), b.self, service, payload)
	}
	if got, err := ask("who", []byte("this")); err != nil || string(got) != "a asks this" {
		t.Errorf("%q, %v", got, err)
	}
	for _, size := range []int{0, 1, readSize, abi.DefaultMaxMessage} {
		payload := bytes.Repeat([]byte{7}, size)
		if got, err := ask("echo", payload); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes came back as %d: %v", size, len(got), err)
		}
	}
	if _, err := ask("time", nil); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		service string
		size    int
		code    abi.Code
		text    string
	}{
		{"error", 0, abi.ErrUnknownKind, "no such kind"},
		{"panic", 0, abi.ErrInternal, "the service panic of node b failed"},
		{"large", 0, abi.ErrPayloadTooLarge, "the reply has"},
		{"nothing", 0, abi.ErrUnsupported, `node b has no service "nothing"`},
		{"no name", 0, abi.ErrInvalidArgument, "no name of a service"},
		{"", 0, abi.ErrInvalidArgument, "no name of a service"},
		{"who", abi.DefaultMaxMessage + 1, abi.ErrPayloadTooLarge, "the limit is"},
	} {
		if _, err := ask(c.service, make([]byte, c.size)); abi.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.service, err)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "the service panic panicked") {
		t.Error(log)
	}
	if _, err := a.Ask(t.Context(), a.self, "who", nil); abi.CodeOf(err) != abi.ErrInternal {
		t.Error("a node asks itself:", err)
	}
	if s := a.Stats(); s.Connected != 1 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAskIsGivenUp: whoever asks may leave, and the service learns of it, as it does of the end of its time or of the connection.
func TestAskIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		began, ended := make(chan struct{}), make(chan error)
		slow := services(map[string]Service{"slow": func(ctx context.Context, _ cluster.NodeID, _ []byte) ([]byte, error) {
			began <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}})
		a, b := w.node("a"), w.node("b", slow)

		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan error, 1)
		ask := func(ctx context.Context) {
			_, err := a.Ask(ctx, b.self, "slow", nil)
			told <- err
		}
		go ask(ctx)
		<-began
		cancel()
		if err := <-told; abi.CodeOf(err) != abi.ErrCanceled {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := a.Ask(ctx, b.self, "slow", nil); abi.CodeOf(err) != abi.ErrCanceled {
			t.Error(err)
		}

		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		go ask(ctx)
		<-began
		if err := <-told; abi.CodeOf(err) != abi.ErrTimeout {
			t.Error(err)
		}
		<-ended

		go ask(t.Context())
		<-began
		for _, wire := range a.wires(false) {
			wire.close(errLost)
		}
		if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestAskBound: more questions than a connection may ask at a time are refused at once; messages do not notice.
func TestAskBound(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	var begun sync.WaitGroup
	begun.Add(maxAsked)
	a := w.node("a")
	b := w.node("b", services(map[string]Service{"slow": func(ctx context.Context, _ cluster.NodeID, _ []byte) ([]byte, error) {
		begun.Done()
		<-release
		return nil, nil
	}}))
	told := make(chan error, maxAsked)
	for range maxAsked {
		go func() {
			_, err := a.Ask(patient(t), b.self, "slow", nil)
			told <- err
		}()
	}
	begun.Wait()
	if _, err := a.Ask(patient(t), b.self, "slow", nil); abi.CodeOf(err) != abi.ErrOverloaded {
		t.Error(err)
	}
	if _, err := w.target(a, b).Deliver(t.Context(), message("counter/a", nil)); err != nil {
		t.Error(err)
	}
	close(release)
	for range maxAsked {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
	begun.Add(1)
	if _, err := a.Ask(patient(t), b.self, "slow", nil); err != nil {
		t.Error("there is room again:", err)
	}
}

// TestAskBeforeConnected: what waits for the connection finds out what the other side can.
func TestAskBeforeConnected(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	answered := make(chan struct{})
	older := w.listen("b", func(r *raw) { // rawHello has no features
		r.answer(w, "b")
		<-answered
	})
	if _, err := a.Ask(patient(t), older, "who", nil); abi.CodeOf(err) != abi.ErrUnsupported || !strings.Contains(err.Error(), "older version") {
		t.Error(err)
	}
	if _, err := a.Ask(patient(t), older, "who", nil); abi.CodeOf(err) != abi.ErrUnsupported {
		t.Error(err)
	}
	if s := a.Stats(); s.InFlight != 0 || s.Outgoing != 1 || s.Unreached != 0 {
		t.Errorf("%+v", s)
	}
	close(answered)
	nobody := cluster.Node{ID: "c", Authority: "127.0.0.1:1"}
	if _, err := a.Ask(patient(t), nobody, "who", nil); abi.CodeOf(err) != abi.ErrUnreachable {
		t.Error(err)
	}
}

// TestAskDuringShutdown: an answer under way is waited for, as replies are.
func TestAskDuringShutdown(t *testing.T) {
	w := newWorld(t)
	began, release := make(chan struct{}), make(chan struct{})
	a := w.node("a")
	b := w.node("b", services(map[string]Service{"slow": func(ctx context.Context, _ cluster.NodeID, _ []byte) ([]byte, error) {
		close(began)
		<-release
		return []byte("late"), ctx.Err()
	}}))
	told := make(chan []byte, 1)
	go func() {
		got, err := a.Ask(patient(t), b.self, "slow", nil)
		if err != nil {
			t.Error(err)
		}
		told <- got
	}()
	<-began
	ended := make(chan error, 1)
	go func() { ended <- b.Shutdown(context.Background()) }()
	<-b.ctx.Done() // it has begun
	close(release)
	if got := <-told; !bytes.Equal(got, []byte("late")) {
		t.Errorf("%q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
