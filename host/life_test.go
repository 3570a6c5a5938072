package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/gateway"
)

// native is an instance made of a function.
type native struct {
	h    *actor.Host
	turn func(h *actor.Host, ev *abi.Event, out *abi.Output) error
}

func (n *native) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error { return n.turn(n.h, ev, out) }
func (n *native) Close() error                                           { return nil }

// nativeKind is a kind whose actors share one function.
func nativeKind(name string, turn func(h *actor.Host, ev *abi.Event, out *abi.Output) error) NativeKind {
	return NativeKind{
		Desc: abi.KindDescription{Name: name, Events: []abi.EventTag{abi.EventCall, abi.EventMessage, abi.EventCompletion, abi.EventTimer}},
		New:  func(h *actor.Host) (actor.Instance, error) { return &native{h, turn}, nil },
	}
}

func replyWith(out *abi.Output, payload []byte) error {
	out.Kind, out.Payload = abi.OutReply, payload
	return nil
}

// idleNode is a node with native actors, not started.
func idleNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	cfg.Native = append(cfg.Native, nativeKind("native", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error {
		return replyWith(out, ev.Payload)
	}))
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// refuses checks that a node which does not run answers all the same.
func refuses(t *testing.T, n *Node, code abi.Code) {
	t.Helper()
	_, err := call(n, "native/a", "m", "1")
	wantCode(t, err, code)
	if err := n.Passivate(t.Context()); err != nil {
		t.Error(err)
	}
	if n.Actors(gateway.ActorQuery{Limit: 10}).Actors == nil || n.Ready().Ready {
		t.Errorf("actors %v, ready %v", n.Actors(gateway.ActorQuery{Limit: 10}), n.Ready())
	}
	n.Files()
	n.Kinds()
	n.URL()
	n.API()
	if _, err := n.Method(t.Context(), "native", "m", time.Now().Add(time.Minute)); err != nil && abi.CodeOf(err) != abi.ErrNotReady {
		t.Error(err)
	}
}

func TestLifeOfANode(t *testing.T) {
	t.Run("shut down before it starts", func(t *testing.T) {
		n := idleNode(t, Config{})
		refuses(t, n, abi.ErrNotReady)
		if err := n.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-n.Done()
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "shut down") {
			t.Errorf("%v", err)
		}
		if n.Err() != nil {
			t.Error(n.Err())
		}
		refuses(t, n, abi.ErrShuttingDown)
	})
	t.Run("started twice", func(t *testing.T) {
		n := idleNode(t, Config{})
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "started before") {
			t.Errorf("%v", err)
		}
		mustCall(t, n, "native/a", "m", "1")
		for range 2 {
			if err := n.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		refuses(t, n, abi.ErrShuttingDown)
		if err := n.Start(t.Context()); err == nil {
			t.Error("it starts again")
		}
	})
	t.Run("from many sides at once", func(t *testing.T) {
		for range 20 {
			n := idleNode(t, Config{HTTP: "127.0.0.1:0"})
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if err := n.Start(t.Context()); err == nil {
						call(n, "native/a", "m", "1")
					}
				})
				wg.Go(func() {
					if err := n.Shutdown(t.Context()); err != nil {
						t.Error(err)
					}
					select {
					case <-n.Done():
					default:
						t.Error("not done after the shutdown")
					}
				})
				wg.Go(func() { call(n, "native/b", "m", "1"); n.URL(); n.Ready() })
			}
			wg.Wait()
		}
	})
	t.Run("shut down while it loads", func(t *testing.T) {
		var hold hold
		defer hold.begin()()
		cfg := Config{HTTP: "127.0.0.1:0", ActorsDir: actorsDir(t, "echo.wasm", "examples.wasm"), Watch: true, DataDir: t.TempDir()}
		hold.config(&cfg)
		n := idleNode(t, cfg)
		started := make(chan error, 1)
		go func() { started <- n.Start(context.Background()) }()
		eventually(t, "a gateway", func() bool { return n.URL() != "" })
		notReady(t, nil, func(timeout time.Duration) error { // it waits for the start, as long as it has time
			_, err := callFor(n, "native/a", "m", "1", timeout)
			return err
		})
		waits := make(chan error, 1)
		go func() {
			_, err := call(n, "native/a", "m", "1")
			waits <- err
		}()
		if err := n.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if code := abi.CodeOf(<-waits); code != abi.ErrNone && code != abi.ErrNotReady && code != abi.ErrShuttingDown {
			t.Errorf("a call that waited for the start: %s", code.String())
		}
		if err := <-started; err == nil {
			t.Error("the start went on")
		} else {
			t.Log(err)
		}
		<-n.Done()
		if _, err := http.Get(n.URL()); err == nil {
			t.Error("it still serves")
		}
	})
	t.Run("a start that fails after the gateway serves", func(t *testing.T) {
		var hold hold
		defer hold.begin()()
		cfg := Config{HTTP: "127.0.0.1:0", ActorsDir: actorsDir(t, "echo.wasm", "examples.wasm"), DataDir: t.TempDir()}
		hold.config(&cfg)
		n := idleNode(t, cfg)
		ctx, cancel := context.WithCancel(context.Background())
		started := make(chan error, 1)
		go func() { started <- n.Start(ctx) }()
		eventually(t, "a gateway", func() bool { return n.URL() != "" })
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(n.URL() + "/readyz") // its connection stays open
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("ready: %s", resp.Status)
		}
		cancel()
		if err := <-started; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		<-n.Done()
		if n.Err() == nil {
			t.Error("no error is kept")
		}
		if _, err := client.Get(n.URL() + "/readyz"); err == nil {
			t.Error("it still serves")
		}
		if err := n.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A second shutdown that has no time hurries the first.
func TestASecondShutdownHurriesTheFirst(t *testing.T) {
	deferred := make(chan struct{})
	n := idleNode(t, Config{Native: []NativeKind{nativeKind("owes", func(_ *actor.Host, ev *abi.Event, out *abi.Output) error {
		out.Kind = abi.OutEffects // never answers
		close(deferred)
		return nil
	})}})
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	owed := make(chan error, 1)
	go func() { _, err := callFor(n, "owes/a", "m", "1", 10*time.Minute); owed <- err }()
	<-deferred
	first := make(chan error, 1)
	go func() { first <- n.Shutdown(context.Background()) }()
	eventually(t, "the shutdown", func() bool { return n.leaving.Load() })
	hurry, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Shutdown(hurry); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	err := <-owed
	wantCode(t, err, abi.ErrOutcomeUnknown, "outcome is unknown")
}

// descriptors counts the open files of this process, 0 where nothing tells.
func descriptors() int {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(fds)
}

func TestFiftyLivesLeaveNothingBehind(t *testing.T) {
	dir, data := actorsDir(t, "echo.wasm"), t.TempDir()
	client := &http.Client{Transport: &http.Transport{}}
	life := func(connected bool) {
		n, err := New(Config{HTTP: "127.0.0.1:0", ActorsDir: dir, DataDir: data, Watch: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			resp, err := client.Post(fmt.Sprint(n.URL(), "/v1/actors/echo/", i, "/echo"), "application/json", strings.NewReader(`"hello"`))
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), `"hello"`) {
				t.Errorf("%s: %s", resp.Status, b)
			}
			resp.Body.Close()
		}
		if !connected { // an open connection is given a moment, which adds up
			client.CloseIdleConnections()
		}
		if err := n.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		client.CloseIdleConnections()
	}
	life(true)
	files, goroutines := descriptors(), runtime.NumGoroutine()
	for i := range 50 {
		life(i%10 == 0)
	}
	eventually(t, "no goroutine and no file more than before", func() bool {
		return runtime.NumGoroutine() <= goroutines && descriptors() <= files
	})
}

// Clients at a node that is shut down: whoever is answered, was served, and whatever was served, is answered. All others are
// told that nothing was done.
func TestShutdownUnderLoadLosesNothing(t *testing.T) {
	var served, told atomic.Int64
	kind := nativeKind("tally", func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
		if ev.Tag == abi.EventMessage {
			told.Add(1)
			return nil
		}
		if ev.Tag == abi.EventCompletion { // of "later"
			out.Kind = abi.OutEffects
			out.Effects = []abi.Effect{{Tag: abi.EffectReply, Token: ev.Handle, Payload: []byte{0xf6}, Err: ev.Err}}
			return nil
		}
		switch ev.Method {
		case "later":
			out.Kind = abi.OutEffects
			out.Effects = []abi.Effect{{Tag: abi.EffectCall, Handle: ev.Token, Target: h.Identity(), Method: "add"}}
			return nil
		case "sweat":
			for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
				runtime.Gosched()
			}
		}
		served.Add(1)
		return replyWith(out, []byte{0xf6})
	})
	n := start(t, Config{HTTP: "127.0.0.1:0", ActorsDir: actorsDir(t, "probe.wasm"), Native: []NativeKind{kind},
		Limits: Limits{Turn: hang, Request: hang}, Kinds: map[string]KindLimits{"tally": {Idle: 5 * time.Millisecond}},
		Net: Net{patience: hang}}) // no limit of time keeps anybody who was served from its answer
	mustCall(t, n, "probe/p", "self", "")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()

	var answered, accepted, refused, wasm atomic.Int64
	var wg sync.WaitGroup
	for c := range 12 {
		wg.Go(func() {
			for i := 0; ; i++ {
				actor := fmt.Sprint("tally/t", (c+i)%7)
				var err error
				switch c % 4 {
				case 0:
					_, err = call(n, actor, []string{"add", "sweat", "later"}[i%3], "1")
				case 1:
					if i%16 == 0 { // or the mailboxes would be full all the time
						_, err = call(n, actor, "add", "1")
						break
					}
					id, _ := abi.ParseIdentity(actor)
					_, err = n.Send(context.Background(), &abi.Envelope{Target: id, Method: "add", Flags: abi.OneWay})
					if err == nil {
						accepted.Add(1)
						continue
					}
				case 2:
					// The wasm actor calls the native one.
					var out string
					if out, err = call(n, fmt.Sprint("probe/p", i%3), "call", fmt.Sprintf(`{"to":%q,"method":"add"}`, actor)); err == nil && out != "null" {
						t.Errorf("%s", out)
					}
					if err != nil && strings.Contains(err.Error(), "shutting_down") {
						err = abi.ErrShuttingDown // as the probe passes it on
					} else if err == nil {
						wasm.Add(1)
					}
				case 3:
					resp, postErr := client.Post(n.URL()+"/v1/actors/"+actor+"/add", "application/json", bytes.NewReader([]byte("1")))
					if postErr != nil {
						return // the gateway has gone
					}
					b, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusServiceUnavailable {
						err = abi.ErrShuttingDown
					} else if resp.StatusCode != http.StatusOK {
						t.Errorf("%s: %s", resp.Status, b)
					}
				}
				switch code := abi.CodeOf(err); {
				case code == abi.ErrNone:
					answered.Add(1)
				case code.Retryable():
					refused.Add(1)
					return
				default:
					t.Errorf("client %d: %v", c, err)
					return
				}
			}
		})
	}
	eventually(t, "some load", func() bool { return answered.Load() > 2000 && wasm.Load() > 50 })
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if answered.Load() != served.Load() {
		t.Errorf("%d calls were answered, %d were served", answered.Load(), served.Load())
	}
	if accepted.Load() != told.Load() {
		t.Errorf("%d one-way messages were accepted, %d had their turn", accepted.Load(), told.Load())
	}
	t.Logf("%d calls (%d by wasm), %d messages, %d refused", answered.Load(), wasm.Load(), accepted.Load(), refused.Load())
}

// A file that a node refuses says why, wherever the start was.
func TestStartNamesWhatIsWrong(t *testing.T) {
	n := idleNode(t, Config{ActorsDir: filepath.Join(t.TempDir(), "nowhere")})
	err := n.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nowhere") || n.Err() == nil {
		t.Errorf("%v, kept %v", err, n.Err())
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
