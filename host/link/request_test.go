package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// received is what a handler was given.
type received struct {
	env  *abi.Envelope
	from cluster.NodeID
	done func([]byte, error)
}

// inbox is a handler that hands everything to the test.
type inbox chan received

func (c inbox) Handle(env *abi.Envelope, from cluster.NodeID, done func([]byte, error)) {
	c <- received{env, from, done}
}

func handler(h Handler) func(*Config) { return func(c *Config) { c.Handler = h } }

func TestEnvelopeArrivesAsItWasSent(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 1)
	target := w.target(w.node("a"), w.node("b", handler(got)))
	env := &abi.Envelope{Target: identity("counter/α/β"), Method: "add", Payload: []byte{1, 2, 3}, Deadline: time.Now().Add(10 * time.Minute),
		TraceParent: "00-1-2-01", TraceState: "k=v", IdempotencyKey: "key", Caller: identity("bank/b"),
		SenderEpoch: abi.Epoch{Generation: 3, Index: 4}, Chain: []abi.Identity{identity("bank/b"), identity("bank/c")}, Flags: abi.Idempotent}
	go func() {
		r := <-got
		left := time.Until(r.env.Deadline)
		if left > 10*time.Minute || left < 5*time.Minute {
			t.Errorf("%s are left of 10 minutes", left)
		}
		if r.from != "a" {
			t.Errorf("it came from %q", r.from)
		}
		r.env.Deadline = env.Deadline
		if fmt.Sprint(*r.env) != fmt.Sprint(*env) {
			t.Errorf("got  %v\nsent %v", *r.env, *env)
		}
		r.done([]byte("reply"), nil)
	}()
	if reply, err := target.Deliver(t.Context(), env); err != nil || string(reply) != "reply" {
		t.Errorf("%q, %v", reply, err)
	}
}

func TestErrorsArriveAsTheyWereAnswered(t *testing.T) {
	w := newWorld(t)
	var answer error
	target := w.target(w.node("a"), w.node("b", handler(handlerFunc(func(_ *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
		done(nil, answer)
	}))))
	for _, info := range abi.Codes()[1:] {
		answer = &abi.Error{Code: info.Code, App: "own", Message: "why", Details: []byte{0xf6}}
		_, err := target.Deliver(t.Context(), message("counter/a", nil))
		if e, ok := err.(*abi.Error); !ok || fmt.Sprint(*e) != fmt.Sprint(*answer.(*abi.Error)) {
			t.Errorf("%v came as %#v", answer, err)
		}
	}
	answer = errors.New("disk on fire")
	if _, err := target.Deliver(t.Context(), message("counter/a", nil)); abi.CodeOf(err) != abi.ErrInternal || err.Error() != "internal: disk on fire" {
		t.Error(err)
	}
}

func TestMessagesWithoutReply(t *testing.T) {
	w := newWorld(t)
	got := make(inbox, 4)
	target := w.target(w.node("a"), w.node("b", handler(got)))

	env := message("counter/a", []byte("posted"))
	env.Flags = abi.OneWay
	if err := target.Post(env, nil); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.done != nil || string(r.env.Payload) != "posted" || r.env.Flags != abi.OneWay {
		t.Errorf("%+v", r)
	}
	// Delivered, it is acknowledged: the sender learns that the message was refused.
	env = message("counter/a", []byte("delivered"))
	env.Flags = abi.OneWay
	go func() { (<-got).done(nil, abi.ErrOwnershipChanged) }()
	if _, err := target.Deliver(t.Context(), env); !errors.Is(err, abi.ErrOwnershipChanged) {
		t.Error(err)
	}
	go func() { (<-got).done(nil, nil) }()
	if _, err := target.Deliver(t.Context(), env); err != nil {
		t.Error(err)
	}
	// Posted with somebody to tell.
	told := make(chan error, 1)
	if err := target.Post(message("counter/a", nil), func(p []byte, err error) {
		if string(p) != "reply" {
			t.Errorf("%q", p)
		}
		told <- err
	}); err != nil {
		t.Fatal(err)
	}
	(<-got).done([]byte("reply"), nil)
	if err := <-told; err != nil {
		t.Error(err)
	}
}

func TestManyCallersShareAConnection(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", handler(handlerFunc(func(env *abi.Envelope, from cluster.NodeID, done func([]byte, error)) {
		go done(append([]byte("re:"), env.Payload...), nil)
	})))
	target := w.target(a, b)
	var wg sync.WaitGroup
	const callers, each = 1000, 20
	for caller := range callers {
		wg.Go(func() {
			for n := range each {
				payload := bytes.Repeat([]byte{byte(caller), byte(n)}, 1+caller%50)
				reply, err := target.Deliver(t.Context(), message("counter/a", payload))
				if err != nil || !bytes.Equal(reply[3:], payload) {
					t.Errorf("caller %d got %q, %v", caller, reply, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if s := a.Stats(); s.Connected != 1 || s.Outgoing != 1 || s.Sent != callers*each || s.InFlight != 0 || s.BytesOut == 0 || s.BytesIn == 0 {
		t.Errorf("%+v", s)
	}
	if s := b.Stats(); s.Accepted != 1 || s.Incoming != 1 || s.Serving != 0 {
		t.Errorf("%+v", s)
	}
}

func TestOrder(t *testing.T) {
	w := newWorld(t)
	const messages = 5000
	order := make(chan int, 2*messages)
	target := w.target(w.node("a"), w.node("b", handler(handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
		order <- int(env.Payload[0]) | int(env.Payload[1])<<8
		if done != nil {
			done(nil, nil)
		}
	}))))
	// The first wait for the connection, and with and without reply take turns.
	for n := range messages {
		env := message("counter/a", []byte{byte(n), byte(n >> 8)})
		var done func([]byte, error)
		if n%3 == 0 {
			done = func([]byte, error) {}
		}
		if err := target.Post(env, done); err != nil {
			t.Fatal(err)
		}
	}
	for n := range messages {
		if got := <-order; got != n {
			t.Fatalf("%d came in the place of %d", got, n)
		}
	}
}

func TestCallerGivesUp(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	got := make(inbox, 4)
	target := w.target(a, w.node("b", handler(got)))
	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan received, 1)
	go func() {
		r := <-got
		cancel()
		held <- r
	}()
	_, err := target.Deliver(ctx, message("counter/a", nil))
	if abi.CodeOf(err) != abi.ErrCanceled || abi.CodeOf(err).Retryable() {
		t.Error(err)
	}
	r := <-held
	if s := a.Stats(); s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	r.done([]byte("late"), nil) // to nobody
	r.done([]byte("twice"), nil)
	// The connection has not suffered, and no answer comes to the wrong caller.
	go func() { (<-got).done([]byte("mine"), nil) }()
	if reply, err := target.Deliver(t.Context(), message("counter/a", nil)); err != nil || string(reply) != "mine" {
		t.Errorf("%q, %v", reply, err)
	}
	if s := a.Stats(); s.Connected != 1 {
		t.Errorf("%+v", s)
	}
	// Who has given up before sends nothing.
	if _, err := target.Deliver(ctx, message("counter/a", nil)); abi.CodeOf(err) != abi.ErrCanceled {
		t.Error(err)
	}
	late := message("counter/a", nil)
	late.Deadline = time.Now().Add(-time.Second)
	if _, err := target.Deliver(t.Context(), late); abi.CodeOf(err) != abi.ErrTimeout {
		t.Error(err)
	}
	if err := target.Post(late, func([]byte, error) { t.Error("told twice") }); abi.CodeOf(err) != abi.ErrTimeout {
		t.Error(err)
	}
	select {
	case r := <-got:
		t.Errorf("%v was sent", r.env)
	default:
	}
}

func TestDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		got := make(inbox, 8)
		target := w.target(w.node("a"), w.node("b", handler(got)))
		soon := func(d time.Duration) *abi.Envelope {
			env := message("counter/a", nil)
			env.Deadline = time.Now().Add(d)
			return env
		}
		told := make(chan error, 2)
		tell := func(_ []byte, err error) { told <- err }
		if err := errors.Join(target.Post(soon(time.Hour), nil), target.Post(soon(80*time.Millisecond), tell), target.Post(soon(40*time.Millisecond), tell)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-told; abi.CodeOf(err) != abi.ErrTimeout || !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		began := time.Now()
		if _, err := target.Deliver(t.Context(), soon(30*time.Millisecond)); abi.CodeOf(err) != abi.ErrTimeout {
			t.Error(err)
		}
		if d := time.Since(began); d < 30*time.Millisecond {
			t.Errorf("it gave up after %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := target.Deliver(ctx, soon(time.Hour)); abi.CodeOf(err) != abi.ErrTimeout {
			t.Error(err)
		}
	})
}

func TestTooMuchUnderWay(t *testing.T) {
	for _, c := range []struct {
		name   string
		sender func(*Config)
		taker  func(*Config)
	}{
		{"requests, by the sender", func(c *Config) { c.MaxInFlight = 3 }, nil},
		{"requests, as the other end said", nil, func(c *Config) { c.MaxInFlight = 3 }},
		{"bytes", func(c *Config) { c.MaxMessage, c.MaxBytes = 10<<10, 50<<10 }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			got := make(inbox, 8)
			optional := func(f func(*Config)) func(*Config) {
				if f == nil {
					return func(*Config) {}
				}
				return f
			}
			a := w.node("a", optional(c.sender))
			target := w.target(a, w.node("b", handler(got), optional(c.taker)))
			told := make(chan error, 8)
			tell := func(_ []byte, err error) { told <- err }
			size := 10
			if c.name == "bytes" {
				size = 10 << 10
			}
			post := func() error { return target.Post(message("counter/a", make([]byte, size)), tell) }
			if err := post(); err != nil { // and the other end has said what it takes
				t.Fatal(err)
			}
			first := <-got
			taken := 1
			var err error
			for ; taken < 10; taken++ {
				if err = post(); err != nil {
					break
				}
			}
			if abi.CodeOf(err) != abi.ErrOverloaded || !abi.CodeOf(err).Retryable() || taken < 3 || taken > 5 {
				t.Fatalf("after %d: %v", taken, err)
			}
			if _, err := target.Deliver(t.Context(), message("counter/a", make([]byte, size))); abi.CodeOf(err) != abi.ErrOverloaded {
				t.Error(err)
			}
			first.done(nil, nil)
			if err := <-told; err != nil {
				t.Error(err)
			}
			if err := post(); err != nil {
				t.Errorf("there is room again, but %v", err)
			}
			for range taken {
				(<-got).done(nil, nil)
				if err := <-told; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestSizes(t *testing.T) {
	w := newWorld(t)
	a := w.node("a", func(c *Config) { c.MaxMessage = 2 << 20 })
	b := w.node("b", handler(handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
		if env.Method == "large" {
			done(make([]byte, 3<<20), nil)
			return
		}
		done(env.Payload, nil)
	})))
	target := w.target(a, b)
	for _, size := range []int{0, 1, 127, 16 << 10, 16<<10 + 1, readSize, 100_000, abi.DefaultMaxMessage} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		reply, err := target.Deliver(t.Context(), message("counter/a", payload))
		if err != nil || !bytes.Equal(reply, payload) {
			t.Errorf("%d bytes: %d, %v", size, len(reply), err)
		}
	}
	sent := a.Stats().BytesOut
	for _, size := range []int{10 << 20, 2<<20 + 1, abi.DefaultMaxMessage + frameExtra} { // the last two by the limit of either end
		_, err := target.Deliver(t.Context(), message("counter/a", make([]byte, size)))
		if abi.CodeOf(err) != abi.ErrPayloadTooLarge || abi.CodeOf(err).Retryable() {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if n := a.Stats().BytesOut - sent; n > 4<<10 {
		t.Errorf("%d bytes were sent", n)
	}
	env := message("counter/a", nil)
	env.Method = "large"
	if _, err := target.Deliver(t.Context(), env); abi.CodeOf(err) != abi.ErrPayloadTooLarge {
		t.Error(err)
	}
	if _, err := target.Deliver(t.Context(), message("counter/a", []byte("x"))); err != nil || a.Stats().Connected != 1 {
		t.Error("the connection has suffered:", err)
	}
}

func TestMessagesThatCannotBe(t *testing.T) {
	w := newWorld(t)
	target := w.target(w.node("a"), w.node("b"))
	for _, env := range []*abi.Envelope{{}, {Target: identity("counter/a")}, {Target: identity("counter/a"), Method: "no spaces"}, {Method: "add"}} {
		env.Deadline = time.Now().Add(time.Minute)
		if _, err := target.Deliver(t.Context(), env); abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%+v: %v", env, err)
		}
		if err := target.Post(env, nil); abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%+v: %v", env, err)
		}
	}
}

func TestHandlerThatPanics(t *testing.T) {
	w := newWorld(t)
	a := w.node("a")
	b := w.node("b", handler(handlerFunc(func(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
		if len(env.Payload) == 0 {
			panic("a defect")
		}
		done(env.Payload, nil)
	})))
	target := w.target(a, b)
	if _, err := target.Deliver(t.Context(), message("counter/a", nil)); abi.CodeOf(err) != abi.ErrInternal {
		t.Error(err)
	}
	if _, err := target.Deliver(t.Context(), message("counter/a", []byte("x"))); err != nil || a.Stats().Connected != 1 {
		t.Error(err)
	}
}

func TestNodeThatTakesNothing(t *testing.T) {
	w := newWorld(t)
	target := w.target(w.node("a"), w.node("b", handler(nil)))
	if _, err := target.Deliver(t.Context(), message("counter/a", nil)); abi.CodeOf(err) != abi.ErrUnsupported {
		t.Error(err)
	}
}
