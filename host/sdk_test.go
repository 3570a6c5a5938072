package host

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/silo"
)

// The tests here drive testdata/wasm/probe.wasm, a stock Go guest on the Go SDK, through a whole node: what the SDK offers
// works from an actor's code down to the mailbox and back.

func probeNode(t *testing.T, change func(*Config)) *Node {
	cfg := Config{ActorsDir: actorsDir(t, "probe.wasm", "echo.wasm")}
	if change != nil {
		change(&cfg)
	}
	return start(t, cfg)
}

// longTurns is for turns that wait for what the test does.
func longTurns(c *Config) { c.Limits.Turn, c.Limits.Request = 2*hang, 2*hang }

// texts lists the notes of a probe in order.
func texts(t *testing.T, n *Node, actor string) (out []string) {
	t.Helper()
	type note struct{ From, Text string }
	for _, x := range field[[]note](t, mustCall(t, n, actor, "notes", ""), "notes") {
		out = append(out, x.Text)
	}
	return out
}

// eventually waits for what comes by itself, a timer or a message, without a reply to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(hang)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, hang)
		}
		<-tick.C
	}
}

// gate is a request that is answered when the gate of that name is opened: a deferred reply of probe/NAME.
func gate(name string) string {
	return fmt.Sprintf(`{"to":"probe/%s","method":"defer","params":{"name":"gate"}}`, name)
}

// awaitGate waits until so many stand at a gate.
func awaitGate(t *testing.T, n *Node, name string, waiting int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d at the gate %s", waiting, name), func() bool {
		page, _ := n.silo.List(silo.Filter{Kind: "probe"}, "", 1000)
		for _, info := range page {
			if info.Identity.ID() == name {
				return info.Status.Deferred == waiting
			}
		}
		return false
	})
}

func open(t *testing.T, n *Node, name string, value any) {
	t.Helper()
	v, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	mustCall(t, n, "probe/"+name, "release", fmt.Sprintf(`{"name":"gate","value":%s}`, v))
}

func TestGuestKnowsWhoItIsAndWhoAsks(t *testing.T) {
	n := probeNode(t, nil)
	self := mustCall(t, n, "probe/a", "self", "")
	if id := field[string](t, self, "identity"); id != "probe/a" {
		t.Errorf("identity %q", id)
	}
	if c := field[string](t, self, "caller"); c != "" {
		t.Errorf("caller %q of a client", c)
	}
	self = mustCall(t, n, "probe/b", "call", `{"to":"probe/a","method":"self"}`)
	if c := field[string](t, self, "caller"); c != "probe/b" {
		t.Errorf("caller %q, want probe/b", c)
	}
	if turns := field[int](t, self, "turns"); turns != 2 {
		t.Errorf("%d turns, want 2", turns)
	}
	if ms := field[int](t, self, "remaining_ms"); ms <= 0 || ms > 5000 {
		t.Errorf("%d ms left of a turn of 5 s", ms)
	}
	clock := mustCall(t, n, "probe/a", "clock", "")
	for _, name := range []string{"host_ns", "wasi_ns"} {
		if d := time.Since(time.Unix(0, field[int64](t, clock, name))); d < 0 || d > hang {
			t.Errorf("%s is off by %v", name, d)
		}
	}
	random := mustCall(t, n, "probe/a", "random", "")
	if field[uint64](t, random, "host") == field[uint64](t, random, "host2") {
		t.Errorf("random %s", random)
	}
}

func TestGuestPayloadsTravelUnchanged(t *testing.T) {
	n := probeNode(t, nil)
	for _, js := range []string{`{}`, `null`, `9007199254740993`, `-9223372036854775808`, `18446744073709551615`, `1.5`, `"ü☃"`,
		`[1,[2,[3,{"a":null}]]]`, `{"":""}`, `true`} {
		if got := mustCall(t, n, "probe/a", "echo", js); got != js {
			t.Errorf("%s comes back as %s", js, got)
		}
	}
	big := mustCall(t, n, "probe/a", "big", `{"n":1000000}`)
	if len(big) != 1000002 {
		t.Errorf("%d bytes, want a text of 1,000,000", len(big))
	}
	_, err := call(n, "probe/a", "big", `{"n":2000000}`)
	wantCode(t, err, abi.ErrPayloadTooLarge, "1048576")
	if turns := field[int](t, mustCall(t, n, "probe/a", "self", ""), "turns"); turns < 5 {
		t.Errorf("%d turns: a reply that was too large ended the activation", turns)
	}
	_, err = call(n, "probe/a", "echo", `"`+strings.Repeat("x", 1<<20)+`"`)
	wantCode(t, err, abi.ErrPayloadTooLarge)
}

func TestGuestErrors(t *testing.T) {
	n := probeNode(t, nil)
	_, err := call(n, "probe/a", "fail", `{"code":"too_blue","message":"paler please"}`)
	wantCode(t, err, abi.ErrActor, "too_blue", "paler please")
	if e := abi.AsError(err); e.App != "too_blue" {
		t.Errorf("the actor's own code is %q", e.App)
	}
	// A guest may use a few codes of the host; with any other it speaks for itself.
	_, err = call(n, "probe/a", "wire", fmt.Sprintf(`{"code":%d}`, abi.ErrDenied))
	wantCode(t, err, abi.ErrDenied)
	_, err = call(n, "probe/a", "wire", fmt.Sprintf(`{"code":%d}`, abi.ErrOwnershipChanged))
	wantCode(t, err, abi.ErrActor)
	_, err = call(n, "probe/a", "nope", "")
	wantCode(t, err, abi.ErrUnknownMethod, "nope")
	_, err = call(n, "nope/a", "m", "")
	wantCode(t, err, abi.ErrUnknownKind, "nope")
	_, err = call(n, "probe/a", "big", `{"n":"many"}`)
	wantCode(t, err, abi.ErrInvalidArgument, "n")
	// An error of another actor keeps its code on the way through.
	_, err = call(n, "probe/b", "call", `{"to":"probe/a","method":"fail","params":{"code":"too_blue","message":"m"}}`)
	wantCode(t, err, abi.ErrActor, "too_blue")
}

func TestGuestCallsInParallelWithinOneTurn(t *testing.T) {
	n := probeNode(t, longTurns)
	// None of four gates opens before all have been asked: one request after the other would wait for ever.
	out := make(chan string, 1)
	go func() {
		js, err := call(n, "probe/x", "parallel", `{"calls":[`+strings.Join([]string{gate("g0"), gate("g1"), gate("g2"), gate("g3")}, ",")+`]}`)
		out <- fmt.Sprint(js, err)
	}()
	for _, g := range []string{"g0", "g1", "g2", "g3"} {
		awaitGate(t, n, g, 1)
	}
	for _, g := range []string{"g3", "g1", "g0", "g2"} {
		open(t, n, g, g)
	}
	js := <-out
	for i, g := range []string{"g0", "g1", "g2", "g3"} {
		if !strings.Contains(js, `"`+g+`"`) {
			t.Errorf("outcome %d is missing: %s", i, js)
		}
	}
	// Waiting for any of them ends with the one that opens.
	go func() {
		js, err := call(n, "probe/x", "parallel", `{"any":true,"calls":[`+strings.Join([]string{gate("g0"), gate("g1"), gate("g2")}, ",")+`]}`)
		out <- fmt.Sprint(js, err)
	}()
	awaitGate(t, n, "g1", 1)
	open(t, n, "g1", 7)
	if js := <-out; !strings.Contains(js, `"first":1`) {
		t.Errorf("any of three: %s", js)
	}
	for _, g := range []string{"g0", "g2"} { // or the node would wait for them at its end
		awaitGate(t, n, g, 1)
		open(t, n, g, 0)
	}
	// Errors are outcomes too.
	js = mustCall(t, n, "probe/x", "parallel", `{"calls":[{"to":"probe/p0","method":"nope"},{"to":"probe/x","method":"self"},{"to":"probe/p1","method":"echo","params":7}]}`)
	if !strings.Contains(js, "unknown_method") || !strings.Contains(js, "probe/x→probe/x") || !strings.Contains(js, "7") {
		t.Errorf("outcomes %s", js)
	}
}

func TestGuestTellsArriveInOrder(t *testing.T) {
	n := probeNode(t, nil)
	mustCall(t, n, "probe/a", "tells", `{"to":"probe/b","n":100}`)
	got := texts(t, n, "probe/b") // queued behind the tells
	if len(got) != 100 {
		t.Fatalf("%d notes: %q", len(got), got)
	}
	for i, s := range got {
		if s != fmt.Sprint(i) {
			t.Fatalf("note %d is %q", i, s)
		}
	}
	// A turn that fails sends nothing.
	_, err := call(n, "probe/a", "failtell", `{"to":"probe/c"}`)
	wantCode(t, err, abi.ErrActor, "dropped")
	if got := texts(t, n, "probe/c"); len(got) != 0 {
		t.Errorf("c was told %q", got)
	}
}

func TestGuestCallEffectsComplete(t *testing.T) {
	n := probeNode(t, nil)
	if got := mustCall(t, n, "probe/a", "then", `{"to":"probe/b","method":"echo","params":{"x":1}}`); got != `{"x":1}` {
		t.Errorf("then answers %s", got)
	}
	_, err := call(n, "probe/a", "then", `{"to":"probe/b","method":"nope"}`)
	wantCode(t, err, abi.ErrUnknownMethod)
	_, err = call(n, "probe/a", "then", `{"to":"probe/silent","method":"defer","params":{"name":"gate"},"timeout_ms":50}`) // nobody opens it
	wantCode(t, err, abi.ErrTimeout)
	if got := mustCall(t, n, "probe/a", "fanout", `{"to":"probe/d","n":200}`); got != `{"n":200}` {
		t.Errorf("fanout answers %s", got)
	}
	if got := texts(t, n, "probe/d"); len(got) != 200 {
		t.Errorf("%d notes", len(got))
	}
	// While a call is out, the actor takes messages, even from the one it called.
	if got := mustCall(t, n, "probe/a", "then", `{"to":"probe/b","method":"call","params":{"to":"probe/a","method":"echo","params":5}}`); got != "5" {
		t.Errorf("then → call back answers %s", got)
	}
}

func TestGuestDefersReplies(t *testing.T) {
	n := probeNode(t, nil)
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			got, err := call(n, "probe/a", "defer", `{"name":"x"}`)
			if err != nil || got != `{"v":1}` {
				t.Errorf("%d: %s, %v", i, got, err)
			}
		})
	}
	total := 0
	eventually(t, "five deferred replies", func() bool {
		total += field[int](t, mustCall(t, n, "probe/a", "release", `{"name":"x","value":{"v":1}}`), "released")
		return total == 5
	})
	wg.Wait()
	// One that nobody releases ends with its caller's time; released later, nothing happens.
	_, err := callFor(n, "probe/a", "defer", `{"name":"y"}`, 100*time.Millisecond)
	wantCode(t, err, abi.ErrTimeout)
	mustCall(t, n, "probe/a", "release", `{"name":"y","value":1}`)
	// One whose actor breaks is answered.
	done := make(chan error, 1)
	go func() { _, err := call(n, "probe/b", "defer", `{"name":"z"}`); done <- err }()
	eventually(t, "a deferred call", func() bool {
		page, _ := n.silo.List(silo.Filter{Kind: "probe"}, "probe/a", 1)
		return len(page) == 1 && page[0].Status.Deferred == 1
	})
	_, err = call(n, "probe/b", "panic", `{"text":"oh no"}`)
	wantCode(t, err, abi.ErrTrap, "oh no")
	wantCode(t, <-done, abi.ErrTrap)
}

func TestGuestTimers(t *testing.T) {
	n := probeNode(t, nil)
	mustCall(t, n, "probe/a", "after", `{"name":"once","ms":30,"text":"now"}`)
	mustCall(t, n, "probe/a", "after", `{"name":"never","ms":60000,"text":"no"}`)
	mustCall(t, n, "probe/a", "every", `{"name":"tick","ms":20,"text":"t"}`)
	mustCall(t, n, "probe/a", "cancel", `{"name":"never"}`)
	eventually(t, "three ticks and a once", func() bool {
		notes := strings.Join(texts(t, n, "probe/a"), " ")
		return strings.Count(notes, "tick: t") >= 3 && strings.Count(notes, "once: now") == 1
	})
	mustCall(t, n, "probe/a", "cancel", `{"name":"tick"}`)
	before := len(texts(t, n, "probe/a"))
	if st := n.silo.Stats(); st.Activations != 1 {
		t.Errorf("%+v", st)
	}
	page, _ := n.silo.List(silo.Filter{}, "", 1)
	if page[0].Status.Timers != 0 {
		t.Errorf("%d timers left", page[0].Status.Timers)
	}
	if after := len(texts(t, n, "probe/a")); after > before+1 {
		t.Errorf("%d notes, %d before the timer was cancelled", after, before)
	}
}

func TestGuestDeadlocksAreAnsweredAtOnce(t *testing.T) {
	n := probeNode(t, longTurns) // a limit would be told otherwise, and later
	_, err := callFor(n, "probe/a", "call", `{"to":"relay/b","method":"call","params":{"to":"probe/a","method":"self"}}`, hang)
	wantCode(t, err, abi.ErrDeadlock, "probe/a→relay/b→probe/a")
	// A→B and B→A at once: both turns wait at a gate of their own, so that both run when they call each other.
	results := make([]error, 2)
	var wg sync.WaitGroup
	for i, pair := range [][2]string{{"probe/c", "probe/d"}, {"probe/d", "probe/c"}} {
		wg.Go(func() {
			js := fmt.Sprintf(`{"calls":[%s,{"to":%q,"method":"self"}]}`, gate(fmt.Sprint("gate", i)), pair[1])
			_, results[i] = callFor(n, pair[0], "sequence", js, hang)
		})
	}
	for i := range results {
		awaitGate(t, n, fmt.Sprint("gate", i), 1)
	}
	for i := range results {
		open(t, n, fmt.Sprint("gate", i), i)
	}
	wg.Wait()
	dead := 0
	for _, err := range results {
		switch abi.CodeOf(err) {
		case abi.ErrDeadlock:
			dead++
		case abi.ErrNone:
		default:
			t.Errorf("%v", err)
		}
	}
	if dead != 1 {
		t.Errorf("%d of two calls were refused as a deadlock, want one: %v", dead, results)
	}
}

func TestGuestReadOnlyTurnsHaveNoEffects(t *testing.T) {
	n := probeNode(t, nil)
	for _, how := range []string{"tell", "then", "timer", "cancel", "defer"} {
		if out, err := call(n, "probe/a", "sneak", fmt.Sprintf(`{"how":%q}`, how)); err == nil {
			t.Errorf("%s: %s", how, out)
		}
	}
}

func TestGuestCrashesEndTheActivationAlone(t *testing.T) {
	n := probeNode(t, func(c *Config) { c.Kinds = map[string]KindLimits{"probe": {Memory: 32 << 20}} })
	tests := []struct {
		method, js string
		code       abi.Code
		words      []string
	}{
		{"panic", `{"text":"my own words"}`, abi.ErrTrap, []string{"my own words"}},
		{"exit", `{"code":3}`, abi.ErrTrap, []string{"3"}},
		{"nil", "", abi.ErrTrap, []string{"nil pointer"}},
		{"goexit", "", abi.ErrTrap, nil},
		{"forever", "", abi.ErrLimitExceeded, []string{"limit of 5s"}},
		{"sleep", `{"ms":120000}`, abi.ErrLimitExceeded, []string{"limit of 5s"}},
		{"hog", `{"mb":0}`, abi.ErrLimitExceeded, []string{"32 MiB"}},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			mustCall(t, n, "probe/a", "note", `{"text":"before"}`)
			began := time.Now()
			_, err := call(n, "probe/a", tt.method, tt.js)
			wantCode(t, err, tt.code, tt.words...)
			if d := time.Since(began); d > 100*time.Second { // less than what the guest would sleep
				t.Errorf("it took %v", d)
			}
			if got := texts(t, n, "probe/a"); len(got) != 0 {
				t.Errorf("the next activation remembers %q", got)
			}
			if got := mustCall(t, n, "echo/b", "echo", `"alive"`); got != `"alive"` {
				t.Errorf("echo answers %s", got)
			}
		})
	}
}

func TestGuestActivationHooks(t *testing.T) {
	n := probeNode(t, func(c *Config) { c.Kinds = map[string]KindLimits{"relay": {Idle: 50 * time.Millisecond}} })
	_, err := call(n, "fragile/broken1", "touch", "")
	if err == nil {
		t.Error("an actor whose Activate fails answers")
	}
	_, err = call(n, "fragile/crash1", "touch", "")
	wantCode(t, err, abi.ErrTrap)
	mustCall(t, n, "fragile/fine", "touch", "")
	mustCall(t, n, "fragile/clock1", "touch", "")
	eventually(t, "ticks of a timer set at activation", func() bool {
		return field[int](t, mustCall(t, n, "fragile/clock1", "ticks", ""), "ticks") > 1
	})
	// The last turn may tell others.
	mustCall(t, n, "relay/r", "watch", `{"by":"w"}`)
	mustCall(t, n, "probe/w", "self", "")
	eventually(t, "what the last turn told", func() bool {
		return strings.Join(texts(t, n, "probe/w"), "") == "r: idle"
	})
}

func TestGuestLogsGoToTheNodesLog(t *testing.T) {
	log := &lines{}
	n := probeNode(t, func(c *Config) { c.Log = log.logger() })
	mustCall(t, n, "probe/a", "log", `{"level":"warn","text":"careful now"}`)
	mustCall(t, n, "probe/a", "print", `{"text":"plain words"}`)
	mustCall(t, n, "probe/a", "print", `{"text":"stern words","stderr":true}`)
	for _, want := range []string{"careful now", "plain words", "stern words"} {
		line := log.find(want)
		if !strings.Contains(line, "probe/a") {
			t.Errorf("%q is logged as %q", want, line)
		}
	}
	if line := log.find("careful now"); !strings.Contains(line, "WARN") {
		t.Errorf("%q has another level", line)
	}
}
