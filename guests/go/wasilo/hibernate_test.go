package wasilo_test

import (
	"fmt"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

// bear remembers what it did, and which hooks ran.
type bear struct {
	log     []string
	waiting *wasilo.Deferred[string]
}

func (b *bear) Activate(ctx *wasilo.Context) error {
	b.log = append(b.log, "activate "+ctx.Reason())
	return nil
}

func (b *bear) Passivate(ctx *wasilo.Context) error {
	b.log = append(b.log, "passivate "+ctx.Reason())
	return nil
}

func (b *bear) do(ctx *wasilo.Context, what string) ([]string, error) {
	b.log = append(b.log, fmt.Sprint(what, " ", ctx.Epoch().Index, " ", ctx.Reason()))
	return b.log, nil
}

func (b *bear) hold(ctx *wasilo.Context, _ wasilo.None) (string, error) {
	b.waiting = wasilo.Defer[string](ctx)
	return "", nil
}

func (b *bear) late(ctx *wasilo.Context, what string) (string, error) {
	return "mine", b.waiting.Reply(ctx, what)
}

var bears = wasilo.Kind("bear", wasilo.Method("do", (*bear).do), wasilo.Method("hold", (*bear).hold),
	wasilo.Method("late", (*bear).late)).Hibernates()

// For the guest nothing ends: it is told who it is once more, under another epoch, and has all that it had.
func TestAHibernatedActorGoesOn(t *testing.T) {
	if s := bears.Describe().State; s.Keep != abi.KeepImage || s.Level != abi.LevelHibernating {
		t.Errorf("%+v", s)
	}
	node := wasilotest.New(t, bears)
	yogi := wasilo.ID("bear", "yogi")
	do := func(what string) string {
		t.Helper()
		log, err := wasilotest.Call[[]string](node, yogi, "do", what)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(log)
	}
	do("a")
	node.Hibernate(yogi)
	if node.Active(yogi) {
		t.Error("active")
	}
	if got := do("b"); got != "[activate call a 1  b 2 ]" {
		t.Errorf("%s", got)
	}
	if got := do("c"); got != "[activate call a 1  b 2  c 2 ]" {
		t.Errorf("%s", got)
	}
	node.Hibernate(yogi)
	node.Passivate(yogi, "idle") // it sleeps
	if got := do("d"); got != "[activate call a 1  b 2  c 2  d 3 ]" {
		t.Errorf("%s", got)
	}
	node.Hibernate(yogi)
	node.Crash(yogi)
	if got := do("e"); got != "[activate call e 4 ]" {
		t.Errorf("%s", got)
	}
}

// A reply that is too late finds nobody, in this activation or another.
func TestALateReplyAfterASleep(t *testing.T) {
	node := wasilotest.New(t, bears)
	yogi := wasilo.ID("bear", "yogi")
	if _, err := wasilotest.Call[string](node, yogi, "hold", wasilo.None{}); err == nil { // times out
		t.Fatal("a reply")
	}
	node.Hibernate(yogi)
	if got, err := wasilotest.Call[string](node, yogi, "late", "yours"); err != nil || got != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}

// The same in bytes, as a node sends them: a second `self` does not make a new actor.
func TestASecondSelfKeepsTheActor(t *testing.T) {
	inst := wasilo.NewInstance(nil, bears)
	id := wasilo.ID("bear", "yogi")
	payload, err := wasilo.Encode("x")
	if err != nil {
		t.Fatal(err)
	}
	turn := func(token, epoch uint64, reason string) []string {
		t.Helper()
		ev := abi.Event{Tag: abi.EventCall, Method: "do", Payload: payload, Token: token}
		if reason != "" {
			ev.Self = &abi.Self{Identity: id, Epoch: abi.Epoch{Index: epoch}, Reason: reason}
		}
		out := inst.Turn(abi.AppendEvent(nil, &ev))
		if out[0] != abi.OutReply {
			t.Fatalf("%x", out)
		}
		log, err := wasilo.Decode[[]string](out[1:])
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	turn(1, 1, "call")
	turn(2, 0, "")
	turn(3, 7, "wake")
	if got := fmt.Sprint(turn(4, 0, "")); got != "[activate call x 1  x 1  x 7  x 7 ]" {
		t.Errorf("%s", got)
	}
}
