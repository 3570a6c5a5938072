package wasilotest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer calls others.
type peer struct {
	log  []string
	held *wasilo.Deferred[string]
}

// Ask names an actor, and whom that one asks in turn.
type Ask struct {
	To   string `json:"to,omitempty"`
	Then *Ask   `json:"then,omitempty"`
}

func (p *peer) ask(ctx *wasilo.Context, in Ask) (string, error) {
	p.log = append(p.log, ctx.Caller().ID())
	if in.To == "" {
		return ctx.Self().ID(), nil
	}
	next := in.Then
	if next == nil {
		next = &Ask{}
	}
	s, err := wasilo.Call[string](ctx, wasilo.ID("peer", in.To), "ask", *next)
	return ctx.Self().ID() + s, err
}

func (p *peer) hold(ctx *wasilo.Context, _ wasilo.None) (string, error) {
	p.held = wasilo.Defer[string](ctx)
	return "", nil
}

func (p *peer) await(ctx *wasilo.Context, to string) (string, error) {
	return wasilo.Call[string](ctx, wasilo.ID("peer", to), "hold", wasilo.None{})
}

func (p *peer) tell(ctx *wasilo.Context, to []string) (wasilo.None, error) {
	for _, id := range to {
		if err := wasilo.Tell(ctx, wasilo.ID("peer", id), "ask", Ask{}); err != nil {
			return wasilo.None{}, err
		}
	}
	return wasilo.None{}, nil
}

func (p *peer) heard(*wasilo.Context, wasilo.None) ([]string, error) { return p.log, nil }

var peerKind = wasilo.Kind("peer",
	wasilo.Method("ask", (*peer).ask),
	wasilo.Method("hold", (*peer).hold),
	wasilo.Method("await", (*peer).await),
	wasilo.Method("tell", (*peer).tell),
	wasilo.ReadOnly("heard", (*peer).heard))

func id(name string) wasilo.Identity { return wasilo.ID("peer", name) }

func TestChains(t *testing.T) {
	node := wasilotest.New(t, peerKind)
	got, err := wasilotest.Call[string](node, id("a"), "ask", Ask{"b", &Ask{"c", nil}})
	if got != "abc" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err = wasilotest.Call[string](node, id("a"), "ask", Ask{"b", &Ask{"c", &Ask{"b", nil}}})
	if !errors.Is(err, abi.ErrDeadlock) || !strings.Contains(err.Error(), "peer/b→peer/c→peer/b") {
		t.Errorf("a circle: %v", err)
	}
}

// Two calls that meet crosswise: whichever message comes second is refused, at once.
func TestCrosswiseCallsAreADeadlock(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(50) {
		node := wasilotest.New(t, peerKind)
		node.Shuffle(seed)
		began := node.Now()
		x := wasilotest.Start[string](node, id("a"), "ask", Ask{"b", nil})
		y := wasilotest.Start[string](node, id("b"), "ask", Ask{"a", nil})
		gotX, errX := x.Wait()
		gotY, errY := y.Wait()
		if !node.Now().Equal(began) {
			t.Errorf("seed %d: time passed", seed)
		}
		seen[fmt.Sprintf("%s %s, %s %s", gotX, abi.CodeOf(errX).String(), gotY, abi.CodeOf(errY).String())] = true
	}
	// One is done before the other begins, or they meet: then the second message is refused, and the first call succeeds.
	for got := range seen {
		if !slices.Contains([]string{"ab ok, ba ok", "ab ok,  deadlock", " deadlock, ba ok"}, got) {
			t.Errorf("%q", got)
		}
	}
	if len(seen) < 2 {
		t.Errorf("in 50 orders only %v", seen)
	}
}

func TestFaults(t *testing.T) {
	for fault, want := range map[wasilotest.Fault]struct {
		err   string
		heard int
	}{
		wasilotest.Deliver: {"<nil>", 1}, wasilotest.Refuse: {"actor_error mailbox_full", 0},
		wasilotest.Lose: {"timeout", 0}, wasilotest.LoseReply: {"timeout", 1},
	} {
		node := wasilotest.New(t, peerKind)
		node.Interfere(func(m wasilotest.Message) wasilotest.Fault {
			if m.From != id("a") || m.To != id("b") || m.Method != "ask" || m.OneWay {
				t.Errorf("%+v", m)
			}
			return fault
		})
		_, err := wasilotest.Call[string](node, id("a"), "ask", Ask{"b", nil})
		if !strings.HasPrefix(fmt.Sprint(err), want.err) {
			t.Errorf("fault %d: %v, want %q", fault, err, want.err)
		}
		heard, err := wasilotest.Call[[]string](node, id("b"), "heard", wasilo.None{})
		if len(heard) != want.heard || err != nil {
			t.Errorf("fault %d: heard %d times, %v, want %d", fault, len(heard), err, want.heard)
		}
	}
}

func TestOrderIsThatOfTheSeed(t *testing.T) {
	run := func(seed uint64) []string {
		node := wasilotest.New(t, peerKind)
		node.Shuffle(seed)
		for _, from := range []string{"a", "b", "c", "d"} {
			wasilotest.Tell(node, id(from), "tell", []string{"x", "x"})
		}
		node.Run()
		heard, err := wasilotest.Call[[]string](node, id("x"), "heard", wasilo.None{})
		if err != nil || len(heard) != 8 {
			t.Errorf("%q, %v", heard, err)
		}
		return heard
	}
	if first := run(1); !slices.Equal(first, run(1)) {
		t.Error("one seed, two orders")
	}
	orders := map[string]bool{}
	for seed := range uint64(10) {
		orders[fmt.Sprint(run(seed))] = true
	}
	if len(orders) < 3 {
		t.Errorf("ten seeds, %d orders", len(orders))
	}
}

func TestCrashEndsWhatIsDeferred(t *testing.T) {
	node := wasilotest.New(t, peerKind)
	r := wasilotest.Start[string](node, id("a"), "hold", wasilo.None{})
	node.Run()
	node.Crash(id("a"))
	if _, err := r.Wait(); !errors.Is(err, abi.ErrTrap) {
		t.Errorf("%v", err)
	}
	if node.Active(id("a")) {
		t.Error("still active")
	}
}

func TestTimeoutsTakeVirtualTime(t *testing.T) {
	node := wasilotest.New(t, peerKind)
	began := node.Now()
	if _, err := wasilotest.Call[string](node, id("a"), "hold", wasilo.None{}); !errors.Is(err, abi.ErrTimeout) {
		t.Errorf("%v", err)
	}
	if d := node.Now().Sub(began); d != abi.DefaultRequest {
		t.Errorf("%v have passed", d)
	}
	// A turn that waits ends by its own limit.
	began = node.Now()
	if _, err := wasilotest.Call[string](node, id("b"), "await", "a"); !errors.Is(err, abi.ErrTimeout) {
		t.Errorf("%v", err)
	}
	if d := node.Now().Sub(began); d != abi.DefaultTurn {
		t.Errorf("%v have passed", d)
	}
}

func TestNobodyThere(t *testing.T) {
	node := wasilotest.New(t, peerKind)
	if _, err := wasilotest.Call[string](node, wasilo.ID("other", "x"), "ask", Ask{}); !errors.Is(err, abi.ErrUnknownKind) {
		t.Errorf("%v", err)
	}
	if _, err := wasilotest.Call[string](node, id("x"), "dance", Ask{}); !errors.Is(err, abi.ErrUnknownMethod) {
		t.Errorf("%v", err)
	}
}

// A turn that still waits when the test ends is ended with it: goleak watches.
func TestTurnsEndWithTheTest(t *testing.T) {
	node := wasilotest.New(t, peerKind)
	wasilotest.Start[string](node, id("b"), "await", "a")
	node.Advance(time.Second)
}
