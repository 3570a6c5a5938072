package wasilo_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

// desk is an actor that tries out what turns can do.
type desk struct {
	notes   []string
	waiting []*wasilo.Deferred[string]
	leaked  *wasilo.Context
	future  *wasilo.Future[string]
	reason  string
}

func (d *desk) Activate(ctx *wasilo.Context) error {
	d.reason = ctx.Reason()
	if ctx.Self().ID() == "broken" {
		return errors.New("no ink")
	}
	if ctx.Self().ID() == "deferring" {
		wasilo.Defer[string](ctx)
	}
	if strings.HasPrefix(ctx.Self().ID(), "clock") {
		return tick.Every(ctx, time.Second, "activation")
	}
	return nil
}

func (d *desk) Passivate(ctx *wasilo.Context) error {
	return wasilo.Tell(ctx, wasilo.ID("desk", "archive"), "note", ctx.Self().ID()+" goes: "+ctx.Reason())
}

var tick = wasilo.Timer("tick", func(d *desk, ctx *wasilo.Context, in string) error {
	d.notes = append(d.notes, ctx.TimerName()+" "+in)
	return nil
})

func (d *desk) note(ctx *wasilo.Context, in string) (int, error) {
	d.notes = append(d.notes, in)
	return len(d.notes), nil
}

func (d *desk) read(ctx *wasilo.Context, _ wasilo.None) ([]string, error) { return d.notes, nil }

// act runs one line of a script, so that a test reads from top to bottom.
func (d *desk) act(ctx *wasilo.Context, in string) (string, error) {
	other, archive := wasilo.ID("desk", "other"), wasilo.ID("desk", "archive")
	switch verb, arg, _ := strings.Cut(in, " "); verb {
	case "who":
		return fmt.Sprintf("%s caller=%s reason=%s event=%d method=%s key=%s oneway=%v", ctx.Self(), ctx.Caller(), d.reason,
			ctx.Event(), ctx.Method(), ctx.IdempotencyKey(), ctx.Event() == abi.EventMessage), nil
	case "echo":
		return arg, nil
	case "repeat":
		return strings.Repeat(arg, 5000), nil
	case "fail":
		return "", wasilo.Errorf("no_paper", "out of %s", arg)
	case "plainfail":
		return "", errors.New(arg)
	case "panic":
		panic(arg)
	case "tellandfail":
		if err := wasilo.Tell(ctx, archive, "note", arg); err != nil {
			return "", err
		}
		if err := tick.After(ctx, time.Second, arg); err != nil {
			return "", err
		}
		if err := wasilo.Then(ctx, other, "act", "echo x", func(*wasilo.Context, string, error) { d.notes = append(d.notes, "ran") }); err != nil {
			return "", err
		}
		for _, w := range d.waiting {
			if err := w.Reply(ctx, arg); err != nil {
				return "", err
			}
		}
		return "", errors.New("after all")
	case "tells":
		for i := range 3 {
			if err := wasilo.Tell(ctx, archive, "note", arg+fmt.Sprint(i)); err != nil {
				return "", err
			}
		}
		return "told", nil
	case "wait":
		d.waiting = append(d.waiting, wasilo.Defer[string](ctx))
		return "never seen", nil
	case "waitandfail":
		d.waiting = append(d.waiting, wasilo.Defer[string](ctx))
		return "", errors.New("changed my mind")
	case "release":
		var errs []string
		for _, w := range d.waiting {
			if err := w.Reply(ctx, arg); err != nil {
				errs = append(errs, err.Error())
			}
		}
		return strings.Join(errs, ";"), nil
	case "releasefail":
		err := d.waiting[0].Fail(ctx, wasilo.Errorf("no_paper", "%s", arg))
		return "", err
	case "callself":
		return wasilo.Call[string](ctx, ctx.Self(), "act", "echo x")
	case "call":
		return wasilo.Call[string](ctx, other, "act", arg)
	case "callwrong":
		n, err := wasilo.Call[int](ctx, other, "act", "echo text")
		return fmt.Sprint(n), err
	case "callnobody":
		return wasilo.Call[string](ctx, wasilo.ID("desk", ""), "act", "echo x")
	case "callinactive":
		return wasilo.Call[string](ctx, wasilo.ID("desk", "asleep"), "act", "echo x", wasilo.OnlyIfActive())
	case "callkey":
		return wasilo.Call[string](ctx, other, "act", "who", wasilo.IdempotencyKey(arg), wasilo.Timeout(time.Second))
	case "callback":
		return wasilo.Call[string](ctx, other, "act", "call back")
	case "back":
		return wasilo.Call[string](ctx, ctx.Caller(), "act", "echo x")
	case "both":
		f, g := wasilo.Start[string](ctx, other, "act", "echo 1"), wasilo.Start[string](ctx, archive, "act", "repeat 2")
		if err := wasilo.WaitAll(ctx, f, g); err != nil {
			return "", err
		}
		if !f.Ready() || !g.Ready() {
			return "", errors.New("not ready")
		}
		a, errA := f.Await()
		b, errB := g.Await()
		return a + "+" + b[:3], errors.Join(errA, errB)
	case "any":
		slow, quick := wasilo.Start[string](ctx, other, "act", "wait"), wasilo.Start[string](ctx, archive, "act", "echo quick")
		i, err := wasilo.WaitAny(ctx, slow, quick)
		if err != nil || i != 1 || slow.Ready() {
			return "", fmt.Errorf("%d, %v, %v", i, err, slow.Ready())
		}
		return quick.Await()
	case "late":
		_, err := wasilo.Start[string](ctx, other, "act", "wait").Await()
		return "", err
	case "startbad":
		_, err := wasilo.Start[string](ctx, other, "no such method!", "").Await()
		return "", err
	case "leak":
		d.leaked, d.future = ctx, wasilo.Start[string](ctx, other, "act", "echo x")
		return "", nil
	case "useleak":
		_, err := d.future.Await()
		return "", err
	case "then":
		reply := wasilo.Defer[string](ctx)
		return "", wasilo.Then(ctx, other, "act", arg, func(ctx *wasilo.Context, out string, err error) {
			d.notes = append(d.notes, "then "+out)
			if err != nil {
				err = reply.Fail(ctx, fmt.Errorf("other: %w", err))
			} else {
				err = reply.Reply(ctx, out+"!")
			}
			if err != nil {
				panic(err)
			}
		})
	case "after":
		return "", wasilo.After(ctx, "tick:"+arg, time.Second, arg)
	case "badevery":
		return "", wasilo.Every(ctx, "tick", 0, arg)
	case "longtimer":
		return "", wasilo.After(ctx, "tick:"+strings.Repeat("x", 200), 0, arg)
	case "badpayload":
		return "", wasilo.Tell[any](ctx, other, "note", make(chan int))
	case "badtype":
		return "", wasilo.Tell(ctx, other, "note", make(chan int))
	case "badresult":
		_, err := wasilo.Call[chan int](ctx, other, "note", "x")
		return "", err
	case "epoch":
		return fmt.Sprint(ctx.Epoch().Index > 0), nil
	case "badtimer":
		return "", wasilo.After(ctx, "tock", time.Second, arg)
	case "cancel":
		return "", ctx.Cancel(arg)
	case "log":
		log := ctx.Log().With("a", 1).WithGroup("g")
		log.Debug("hello world", "b", "two words", slog.Group("h", "c", time.Second))
		ctx.Log().InfoContext(ctx, arg)
		ctx.Log().Warn("w", "err", errors.New("x"))
		ctx.Log().Error("e", "empty", "")
		return "", nil
	case "time":
		deadline, ok := ctx.Deadline()
		var std context.Context = ctx
		return fmt.Sprint(ctx.Now().Format(time.TimeOnly), ctx.Remaining(), deadline.Sub(ctx.Now()), ok, std.Done() == nil, std.Err()), nil
	case "rand":
		a, b := ctx.Rand().Uint64(), ctx.Rand().Uint64()
		return fmt.Sprint(a != b, ctx.Rand().IntN(6) < 6), nil
	}
	return "", wasilo.Errorf("unknown_verb", "%q", in)
}

// sneak is a read-only method that tries to act, in the way that arg says.
func (d *desk) sneak(ctx *wasilo.Context, arg string) (string, error) {
	switch arg {
	case "tell":
		return "", wasilo.Tell(ctx, wasilo.ID("desk", "archive"), "note", "x")
	case "then":
		return "", wasilo.Then(ctx, wasilo.ID("desk", "archive"), "note", "x", func(*wasilo.Context, int, error) {})
	case "timer":
		return "", tick.After(ctx, time.Second, "")
	case "cancel":
		return "", ctx.Cancel("tick")
	case "defer":
		wasilo.Defer[string](ctx)
		return "", nil
	}
	return wasilo.Call[string](ctx, wasilo.ID("desk", "other"), "act", "echo read")
}

var deskKind = wasilo.Kind("desk",
	wasilo.Method("act", (*desk).act),
	wasilo.Method("note", (*desk).note),
	wasilo.ReadOnly("read", (*desk).read),
	wasilo.ReadOnly("sneak", (*desk).sneak),
	tick,
)

func newDesk(t *testing.T) (node *wasilotest.Node, act func(line string) (string, error), notes func(id string) []string) {
	node = wasilotest.New(t, deskKind)
	act = func(line string) (string, error) {
		t.Helper()
		return wasilotest.Call[string](node, wasilo.ID("desk", "mine"), "act", line)
	}
	notes = func(id string) []string {
		t.Helper()
		n, err := wasilotest.Call[[]string](node, wasilo.ID("desk", id), "read", wasilo.None{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return node, act, notes
}

func TestScripts(t *testing.T) {
	for _, c := range []struct{ line, want, err string }{
		{"who", "desk/mine caller= reason=call event=1 method=act key= oneway=false", ""},
		{"call who", "desk/other caller=desk/mine reason=call event=1 method=act key= oneway=false", ""},
		{"callkey k1", "desk/other caller=desk/mine reason=call event=1 method=act key=k1 oneway=false", ""},
		{"fail ink", "", "actor_error no_paper: out of ink"},
		{"plainfail broke", "", "actor_error: broke"},
		{"panic ouch", "", "trap: panic: ouch"},
		{"call fail ink", "", "actor_error no_paper: out of ink"},
		{"call panic ouch", "", "actor_error trap: panic: ouch"},
		{"callself", "", "deadlock: desk/mine→desk/mine"},
		{"callback", "", "deadlock: desk/other→desk/other"},
		{"call back", "", "deadlock: desk/mine→desk/other→desk/mine"},
		{"callwrong", "", "actor_error unreadable_reply: the reply of desk/other to act: an integer expected, not text"},
		{"callnobody", "", "invalid_argument: cannot send act: no valid actor is named"},
		{"callinactive", "", "actor_error not_active: desk/asleep is not active"},
		{"both", "1+222", ""},
		{"any", "quick", ""},
		{"late", "", "timeout: the deadline passed"},
		{"startbad", "", `invalid_argument: cannot send to desk/other: "no such method!" is no method name`},
		{"then echo x", "x!", ""},
		{"then fail ink", "", "actor_error no_paper: other: actor_error no_paper: out of ink"},
		{"badtimer", "", `invalid_argument: kind desk has no handler for timer "tock"`},
		{"badevery x", "", "invalid_argument: a repeating timer needs an interval above 0"},
		{"longtimer x", "", "invalid_argument: a timer's name has 1 to 127 bytes"},
		{"badpayload", "", "invalid_argument: type chan int cannot travel"},
		{"badtype", "", "invalid_argument: type chan int cannot travel"},
		{"badresult", "", "type chan int cannot travel"},
		{"epoch", "true", ""},
		{"cancel ", "", "invalid_argument: a timer's name has 1 to 127 bytes"},
		{"time", "00:00:005s 5s true true <nil>", ""},
		{"rand", "true true", ""},
		{"waitandfail", "", "actor_error: changed my mind"},
	} {
		_, act, _ := newDesk(t)
		got, err := act(c.line)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v, want %q, %q", c.line, got, err, c.want, c.err)
		}
	}
}

func TestLargeOutcome(t *testing.T) {
	_, act, _ := newDesk(t)
	for range 2 {
		if got, err := act("call repeat abc"); err != nil || len(got) != 15000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if got, err := act("call echo small"); err != nil || got != "small" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestEffectsAreAllOrNone(t *testing.T) {
	node, act, notes := newDesk(t)
	waiting := wasilotest.Start[string](node, wasilo.ID("desk", "mine"), "act", "wait")
	node.Run()
	if _, err := act("tellandfail x"); err == nil || !strings.Contains(err.Error(), "after all") {
		t.Errorf("%v", err)
	}
	node.Advance(2 * time.Second)
	if n := append(notes("archive"), notes("mine")...); len(n) != 0 {
		t.Errorf("effects of a failed turn: %q", n)
	}
	if waiting.Done() {
		t.Error("a failed turn answered a deferred call")
	}
	if _, err := act("release now"); err != nil {
		t.Error(err)
	}
	if got, err := waiting.Wait(); got != "now" || err != nil {
		t.Errorf("the deferred call: %q, %v", got, err)
	}
	if got, _ := act("release again"); !strings.Contains(got, "answered before") {
		t.Errorf("a second answer: %q", got)
	}
}

func TestDeferredReplyFails(t *testing.T) {
	node, act, _ := newDesk(t)
	waiting := wasilotest.Start[string](node, wasilo.ID("desk", "mine"), "act", "wait")
	if _, err := act("releasefail ink"); err != nil {
		t.Error(err)
	}
	if _, err := waiting.Wait(); wasilo.CodeOf(err) != "no_paper" {
		t.Errorf("the deferred call: %v", err)
	}
}

func TestDeferWhereNobodyWaits(t *testing.T) {
	node, act, _ := newDesk(t)
	wasilotest.Tell(node, wasilo.ID("desk", "mine"), "act", "wait")
	if got, err := act("release x"); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTellsKeepTheirOrder(t *testing.T) {
	node, act, notes := newDesk(t)
	node.Shuffle(1)
	if _, err := act("tells n"); err != nil {
		t.Error(err)
	}
	node.Run()
	if got := notes("archive"); !slices.Equal(got, []string{"n0", "n1", "n2"}) {
		t.Errorf("%q", got)
	}
}

func TestReadOnlyMethodsHaveNoEffects(t *testing.T) {
	node, _, notes := newDesk(t)
	for _, arg := range []string{"tell", "then", "timer", "cancel", "defer"} {
		_, err := wasilotest.Call[string](node, wasilo.ID("desk", "mine"), "sneak", arg)
		if !errors.Is(err, abi.ErrUnsupported) || !strings.Contains(err.Error(), "method sneak is read-only") {
			t.Errorf("%s: %v", arg, err)
		}
	}
	if got, err := wasilotest.Call[string](node, wasilo.ID("desk", "mine"), "sneak", "call"); got != "read" || err != nil {
		t.Errorf("a request: %q, %v", got, err)
	}
	if n := notes("archive"); len(n) != 0 {
		t.Errorf("%q", n)
	}
}

func TestTimers(t *testing.T) {
	node, act, notes := newDesk(t)
	for _, line := range []string{"after a", "after b", "cancel tick:b"} {
		if _, err := act(line); err != nil {
			t.Error(err)
		}
	}
	node.Advance(999 * time.Millisecond)
	if n := notes("mine"); len(n) != 0 {
		t.Errorf("too early: %q", n)
	}
	node.Advance(10 * time.Second)
	if n := notes("mine"); !slices.Equal(n, []string{"tick:a a"}) {
		t.Errorf("%q", n)
	}
}

// What Activate asks for is not lost to a first turn that is read-only, or that fails.
func TestActivationEffectsSurviveTheFirstTurn(t *testing.T) {
	node, _, notes := newDesk(t)
	if n := notes("clock1"); len(n) != 0 { // read-only
		t.Errorf("%q", n)
	}
	node.Advance(2500 * time.Millisecond)
	if n := notes("clock1"); len(n) != 0 {
		t.Errorf("a timer was set by a read-only turn: %q", n)
	}
	if _, err := wasilotest.Call[string](node, wasilo.ID("desk", "clock1"), "act", "echo x"); err != nil {
		t.Error(err)
	}
	_, err := wasilotest.Call[string](node, wasilo.ID("desk", "clock2"), "act", "fail ink")
	if wasilo.CodeOf(err) != "no_paper" {
		t.Errorf("the first turn: %v", err)
	}
	node.Advance(2500 * time.Millisecond)
	for _, id := range []string{"clock1", "clock2"} {
		if n := notes(id); !slices.Equal(n, []string{"tick activation", "tick activation"}) {
			t.Errorf("%s: %q", id, n)
		}
	}
}

func TestActivationFails(t *testing.T) {
	node, _, _ := newDesk(t)
	for range 2 {
		_, err := wasilotest.Call[string](node, wasilo.ID("desk", "broken"), "act", "echo x")
		if err == nil || err.Error() != "actor_error: the actor could not be activated: no ink" {
			t.Errorf("%v", err)
		}
	}
	_, err := wasilotest.Call[string](node, wasilo.ID("desk", "deferring"), "act", "echo x")
	if !errors.Is(err, abi.ErrUnsupported) {
		t.Errorf("a hook that defers: %v", err)
	}
}

func TestPassivation(t *testing.T) {
	node, act, notes := newDesk(t)
	mine := wasilo.ID("desk", "mine")
	if _, err := act("echo x"); err != nil {
		t.Error(err)
	}
	node.Passivate(mine, "idle")
	if node.Active(mine) {
		t.Error("still active")
	}
	if n := notes("archive"); !slices.Equal(n, []string{"mine goes: idle"}) {
		t.Errorf("%q", n)
	}
	if n := notes("mine"); len(n) != 0 {
		t.Errorf("state outlived the activation: %q", n)
	}
}

func TestPanicDiscardsTheActor(t *testing.T) {
	node, act, notes := newDesk(t)
	if _, err := wasilotest.Call[int](node, wasilo.ID("desk", "mine"), "note", "x"); err != nil {
		t.Error(err)
	}
	if _, err := act("panic ouch"); !errors.Is(err, abi.ErrTrap) {
		t.Errorf("%v", err)
	}
	if n := notes("mine"); len(n) != 0 {
		t.Errorf("state outlived a panic: %q", n)
	}
}

func TestFuturesBelongToTheirTurn(t *testing.T) {
	_, act, _ := newDesk(t)
	if _, err := act("leak"); err != nil {
		t.Error(err)
	}
	if _, err := act("useleak"); err == nil || !strings.Contains(err.Error(), "belongs to a turn that is over") {
		t.Errorf("%v", err)
	}
}

func TestLog(t *testing.T) {
	node, act, _ := newDesk(t)
	if _, err := act("log plain"); err != nil {
		t.Error(err)
	}
	want := []string{
		`DEBUG desk/mine: hello world a=1 g.b="two words" g.h.c=1s`,
		`INFO desk/mine: plain`,
		`WARN desk/mine: w err=x`,
		`ERROR desk/mine: e empty=""`,
	}
	if got := node.Logs(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestBadInputNeverReachesTheHandler(t *testing.T) {
	node, _, notes := newDesk(t)
	_, err := wasilotest.Call[int](node, wasilo.ID("desk", "mine"), "note", 5)
	if !errors.Is(err, abi.ErrInvalidArgument) || !strings.Contains(err.Error(), "text expected, not an integer") {
		t.Errorf("%v", err)
	}
	if n := notes("mine"); len(n) != 0 {
		t.Errorf("%q", n)
	}
}

// clerk has handles that other kinds use.
type clerk struct{ stamped int }

type Stamp struct {
	Times int `json:"times"`
}

var stamp = wasilo.Method("stamp", func(c *clerk, _ *wasilo.Context, in Stamp) (int, error) {
	c.stamped += in.Times
	return c.stamped, nil
})

type boss struct{ heard []int }

func (b *boss) work(ctx *wasilo.Context, id string) ([]int, error) {
	n, err := stamp.Call(ctx, id, Stamp{Times: 1})
	if err != nil {
		return nil, err
	}
	m, err := stamp.Start(ctx, id, Stamp{Times: 10}).Await()
	if err != nil {
		return nil, err
	}
	err = errors.Join(stamp.Tell(ctx, id, Stamp{Times: 100}),
		stamp.Then(ctx, id, Stamp{Times: 1000}, func(_ *wasilo.Context, n int, err error) {
			b.heard = append(b.heard, n)
		}))
	return []int{n, m}, err
}

func TestTypedHandles(t *testing.T) {
	node := wasilotest.New(t, wasilo.Kind("clerk", stamp),
		wasilo.Kind("boss", wasilo.Method("work", (*boss).work),
			wasilo.ReadOnly("heard", func(b *boss, _ *wasilo.Context, _ wasilo.None) ([]int, error) { return b.heard, nil })))
	id := wasilo.ID("boss", "b")
	if got, err := wasilotest.Call[[]int](node, id, "work", "c"); err != nil || !slices.Equal(got, []int{1, 11}) {
		t.Errorf("%v, %v", got, err)
	}
	node.Run()
	if got, err := wasilotest.Call[[]int](node, id, "heard", wasilo.None{}); err != nil || !slices.Equal(got, []int{1111}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := wasilotest.Call[[]int](node, id, "work", ""); !errors.Is(err, abi.ErrInvalidArgument) {
		t.Errorf("a call of nobody: %v", err)
	}
}

type wrongHook struct{}

func (*wrongHook) Activate() error { return nil }

func TestKindRefusesMistakes(t *testing.T) {
	ok := func(*clerk, *wasilo.Context, wasilo.None) (wasilo.None, error) { return wasilo.None{}, nil }
	timer := func(*clerk, *wasilo.Context, wasilo.None) error { return nil }
	for want, make := range map[string]func(){
		"kind Bad: identity":                   func() { wasilo.Kind[clerk]("Bad") },
		"method a b: a method name is":         func() { wasilo.Kind("k", wasilo.Method("a b", ok)) },
		"method a is given twice":              func() { wasilo.Kind("k", wasilo.Method("a", ok), wasilo.ReadOnly("a", ok)) },
		"timer t is given twice":               func() { wasilo.Kind("k", wasilo.Timer("t", timer), wasilo.Timer("t", timer)) },
		"a timer's name has":                   func() { wasilo.Kind("k", wasilo.Timer("a:b", timer)) },
		"the hook is Activate(*wasilo.Context": func() { wasilo.Kind[wrongHook]("k") },
		"method m: type chan int cannot travel": func() {
			wasilo.Kind("k", wasilo.Method("m", func(*clerk, *wasilo.Context, chan int) (int, error) { return 0, nil }))
		},
		"method stamp belongs to kind": func() { wasilo.Kind("clerk", stamp); wasilo.Kind("k", stamp) },
		"kind k is served twice":       func() { wasilo.Serve(wasilo.Kind[clerk]("k"), wasilo.Kind[clerk]("k")) },
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, want) {
					t.Errorf("panic %q, want %q in it", p, want)
				}
			}()
			make()
		}()
	}
}

func TestDescription(t *testing.T) {
	d, err := abi.DecodeDescription(wasilo.NewInstance(nil, deskKind).Describe())
	if err != nil {
		t.Fatal(err)
	}
	k := d.Kinds[0]
	var methods []string
	for _, m := range k.Methods {
		methods = append(methods, fmt.Sprintf("%s(%s) %s %v", m.Name, m.Params, m.Result, m.ReadOnly))
	}
	want := []string{"act(text) text false", "note(text) int false", "read({}) [text] true", "sneak(text) text true"}
	if !slices.Equal(methods, want) {
		t.Errorf("got  %q\nwant %q", methods, want)
	}
	if got := fmt.Sprint(k.Events); got != "[call message completion timer passivate]" {
		t.Errorf("events %s", got)
	}
}

func TestEventsThatAreNotUnderstood(t *testing.T) {
	turn := func(event []byte) *abi.Output {
		t.Helper()
		var out abi.Output
		if err := abi.DecodeOutput(wasilo.NewInstance(nil, deskKind).Turn(event), &out); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	self := &abi.Self{Identity: wasilo.ID("desk", "d"), Reason: "call"}
	for want, event := range map[string][]byte{
		"internal: the host's event: malformed CBOR":                   {0xff},
		"internal: the host's first event does not say who this actor": abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "act", Token: 1}),
		"unsupported: this module does not serve kind other": abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "act",
			Self: &abi.Self{Identity: wasilo.ID("other", "x")}}),
	} {
		if out := turn(event); out.Err == nil || !strings.Contains(out.Err.Error(), want) {
			t.Errorf("%x: %v, want %q", event, out.Err, want)
		}
	}
	for want, ev := range map[string]abi.Event{
		"unsupported: this SDK":                             {Tag: 99, Self: self},
		`unknown_method: kind desk has no method "dance"`:   {Tag: abi.EventCall, Method: "dance", Token: 1, Self: self},
		`internal: kind desk has no handler for timer "tk"`: {Tag: abi.EventTimer, Timer: "tk", Self: self},
	} {
		if out := turn(abi.AppendEvent(nil, &ev)); out.Err == nil || !strings.Contains(out.Err.Error(), want) {
			t.Errorf("%+v: %v, want %q", ev, out.Err, want)
		}
	}
	if out := turn(abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCompletion, Handle: 77, Self: self})); out.Kind != abi.OutEffects || len(out.Effects) != 0 {
		t.Errorf("a completion that nobody waits for: %+v", out)
	}
}
