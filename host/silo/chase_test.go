package silo

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
)

// FuzzWaitsQuestion: what can be read says the same when it is written anew, no longer than before (a number may have come in more bytes
// than it needs), stays in its bounds, and a silo answers it.
func FuzzWaitsQuestion(f *testing.F) {
	f.Add(appendQuestion(nil, &question{reach: []actor.Wait{{Caller: id("a"), Waiter: id("b"), Target: id("c")}}}))
	f.Add(appendQuestion(nil, &question{hold: []hold{{id("a"), 7}, {id("b"), 1 << 63}}}))
	f.Add(appendQuestion(nil, &question{reach: make([]actor.Wait, 0)}))
	f.Add([]byte("\x82\x01\x82\x82ca/o0\x07\x82ca/o0\x1b\x00\x00\x00\x000000")) // more bytes than the number needs
	s := New(Config{})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := readQuestion(b)
		told, failed := s.AnswerWaits(b)
		if (err == nil) != (failed == nil) {
			t.Fatalf("%v, %v", err, failed)
		}
		if err != nil {
			return
		}
		if len(q.reach) > maxAsking || len(q.hold) > maxHolds {
			t.Fatalf("%d and %d items", len(q.reach), len(q.hold))
		}
		again := appendQuestion(nil, q)
		if same, err := readQuestion(again); err != nil || !reflect.DeepEqual(same, q) || len(again) > len(b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
		if q.reach == nil {
			_, err = readHolds(told)
		} else {
			_, err = readAnswer(told, len(q.reach))
		}
		if err != nil {
			t.Fatalf("the answer: %v", err)
		}
	})
}

// FuzzWaitsAnswer: whatever another node answers, what is taken from it is bounded, and says the same when it is written anew.
func FuzzWaitsAnswer(f *testing.F) {
	st := actor.Step{Wait: actor.Wait{Caller: id("a"), Waiter: id("b"), Target: id("c")}, From: id("d"), Edge: 9, Node: "n2"}
	f.Add(appendAnswer(nil, &answer{anchors: []uint64{3}, steps: []actor.Step{st, st}, cut: true}), 1)
	f.Add(appendAnswer(nil, &answer{}), 0)
	f.Add(appendAnswer(nil, &answer{}), 1<<62)
	f.Fuzz(func(t *testing.T, b []byte, asked int) {
		a, err := readAnswer(b, asked)
		if err != nil {
			return
		}
		if len(a.anchors) != asked || len(a.anchors) > maxAsking || len(a.steps) > maxSteps {
			t.Fatalf("%d anchors, %d steps", len(a.anchors), len(a.steps))
		}
		again := appendAnswer(nil, a)
		if same, err := readAnswer(again, asked); err != nil || !reflect.DeepEqual(same, a) || len(again) > len(b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

func TestMalformedWords(t *testing.T) {
	wait := []actor.Wait{{Caller: id("a"), Waiter: id("a"), Target: id("b")}}
	many := &question{hold: make([]hold, maxHolds+1)}
	for i := range many.hold {
		many.hold[i].from = id("a")
	}
	wordy := &question{}
	for range maxAsking + 1 {
		wordy.reach = append(wordy.reach, wait...)
	}
	for name, b := range map[string][]byte{
		"nothing":           {},
		"another kind":      abi.AppendArray(abi.AppendUint(abi.AppendArray(nil, 2), 2), 0),
		"too many holds":    appendQuestion(nil, many),
		"too many messages": appendQuestion(nil, wordy),
		"no identity":       abi.AppendText(abi.AppendArray(abi.AppendArray(abi.AppendUint(abi.AppendArray(nil, 2), 0), 1), 3), "x"),
		"more behind":       append(appendQuestion(nil, &question{reach: wait}), 0),
	} {
		if q, err := readQuestion(b); err == nil {
			t.Errorf("%s: read as %+v", name, q)
		}
	}
	if _, err := readAnswer(appendAnswer(nil, &answer{anchors: []uint64{1, 2}}), 1); err == nil {
		t.Error("an answer about more than was asked is taken")
	}
	long := &answer{steps: []actor.Step{{Wait: wait[0], From: id("a"), Node: strings.Repeat("n", maxNode+1)}}}
	if _, err := readAnswer(appendAnswer(nil, long), 0); err == nil {
		t.Error("a node with a long id is taken")
	}
}

// st is that an actor waits for another, on the node given.
func st(from, to, node string, edge uint64) actor.Step {
	return actor.Step{Wait: actor.Wait{Caller: id(from), Waiter: id(from), Target: id(to)}, From: id(from), Edge: edge, Node: node}
}

func standsAt(h *hunt, at, from string, edge uint64) {
	h.suspects[id(at)] = append(h.suspects[id(at)], actor.Queued{
		Wait: actor.Wait{Caller: id(from), Waiter: id(from), Target: id(at)}, Edge: edge})
}

func text(r *ring) string {
	if r == nil {
		return ""
	}
	var keys []string
	for _, id := range r.cycle() {
		keys = append(keys, id.ID())
	}
	return fmt.Sprint(strings.Join(keys, ">"), " ", r.edge)
}

// tell answers what is to be asked of one node.
func tell(t *testing.T, h *hunt, node cluster.NodeID, anchors []uint64, steps ...actor.Step) {
	t.Helper()
	next := h.next()
	if len(next) != 1 || len(next[node]) != len(anchors) {
		t.Fatalf("asked is %+v, want %s about %d", next, node, len(anchors))
	}
	h.learn(node, next[node], &answer{anchors: anchors, steps: steps})
}

func TestAHuntThatComesHome(t *testing.T) {
	h := newHunt("n1")
	standsAt(h, "a", "z", 8)
	standsAt(h, "a", "c", 9)
	h.learn("n1", nil, &answer{steps: []actor.Step{st("a", "b", "n2", 1)}})
	if r := h.find(id("a")); r != nil {
		t.Errorf("found %s before anybody was asked", text(r))
	}
	tell(t, h, "n2", []uint64{21}, st("b", "b2", "", 22), st("b2", "c", "n3", 23))
	tell(t, h, "n3", []uint64{31}, st("c", "a", "n1", 32))
	r := h.find(id("a"))
	if text(r) != "a>b>b2>c>a 9" {
		t.Fatalf("found %q", text(r))
	}
	want := map[cluster.NodeID][]hold{
		"n1": {{id("a"), 1}},
		"n2": {{id("a"), 21}, {id("b"), 22}, {id("b2"), 23}},
		"n3": {{id("b2"), 31}, {id("c"), 32}},
	}
	if got := r.holds(); !reflect.DeepEqual(got, want) {
		t.Errorf("what must hold: %+v", got)
	}
	if r.first() {
		t.Error("c goes first")
	}
}

func TestWhatIsNoRing(t *testing.T) {
	t.Run("the message is not there", func(t *testing.T) {
		h := newHunt("n1")
		standsAt(h, "a", "b", 9)
		h.learn("n1", nil, &answer{steps: []actor.Step{st("a", "b", "n2", 1)}})
		tell(t, h, "n2", []uint64{0}, st("b", "a", "n1", 22)) // b waits for a, but has no message of a's
		if r := h.find(id("a")); r != nil {
			t.Errorf("found %s", text(r))
		}
	})
	t.Run("the one that waits has nothing here", func(t *testing.T) {
		h := newHunt("n1")
		standsAt(h, "a", "z", 9)
		h.learn("n1", nil, &answer{steps: []actor.Step{st("a", "b", "n2", 1)}})
		tell(t, h, "n2", []uint64{21}, st("b", "a", "n1", 22)) // a's mailbox has no call of b's
		if r := h.find(id("a")); r != nil {
			t.Errorf("found %s", text(r))
		}
	})
	t.Run("it went to another node's", func(t *testing.T) {
		h := newHunt("n1")
		standsAt(h, "a", "b", 9)
		h.learn("n1", nil, &answer{steps: []actor.Step{st("a", "b", "n2", 1)}})
		tell(t, h, "n2", []uint64{21}, st("b", "a", "n3", 22))
		if r := h.find(id("a")); r != nil {
			t.Errorf("found %s", text(r))
		}
	})
}

// The reply to a is deferred by b, which asks c on a's behalf: then a waits for c, as long as it waits for b.
func TestAHuntThroughADeferredReply(t *testing.T) {
	h := newHunt("n1")
	standsAt(h, "a", "c", 9)
	h.learn("n1", nil, &answer{steps: []actor.Step{st("a", "b", "n2", 1)}})
	behalf := actor.Step{Wait: actor.Wait{Caller: id("b"), Waiter: id("a"), Target: id("c")}, From: id("a"), Edge: 22, Node: "n3"}
	tell(t, h, "n2", []uint64{21}, behalf)
	tell(t, h, "n3", []uint64{31}, st("c", "a", "n1", 32))
	r := h.find(id("a"))
	if text(r) != "a>c>a 9" {
		t.Fatalf("found %q", text(r))
	}
	want := map[cluster.NodeID][]hold{
		"n1": {{id("a"), 1}},
		"n2": {{id("a"), 22}, {id("a"), 21}},
		"n3": {{id("a"), 31}, {id("c"), 32}},
	}
	if got := r.holds(); !reflect.DeepEqual(got, want) {
		t.Errorf("what must hold: %+v", got)
	}
}

func TestAHuntIsBounded(t *testing.T) {
	h := newHunt("n1")
	standsAt(h, "a", "b", 9)
	var steps []actor.Step
	for i := range maxLeaps + 10 {
		steps = append(steps, st("a", numbered("b", i), "n2", uint64(i+1)))
	}
	h.learn("n1", nil, &answer{steps: steps})
	h.learn("n1", nil, &answer{steps: steps}) // says nothing new
	asked := 0
	for len(h.open) > 0 {
		by := h.next()
		if len(by["n2"]) > maxAsking || len(by) != 1 {
			t.Fatalf("%d messages in a question", len(by["n2"]))
		}
		asked += len(by["n2"])
	}
	if asked != maxLeaps || !h.cut {
		t.Errorf("%d messages are asked about", asked)
	}
}

// Where another node lies or fails, nobody is told, and the chaser ends with its silo.
func TestAChaserAmongLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that no look runs out of time
		n := newNode(t, nil)
		var asked []string
		answers := [][]byte{nil, {0xff}, appendAnswer(nil, &answer{anchors: []uint64{1}}),
			appendAnswer(nil, &answer{anchors: []uint64{7}, steps: []actor.Step{st("b", "z", "", 7), st("z", "a", "n1", 8)}}), {0xff}}
		c := &chaser{silo: n.silo, self: "n1", delay: time.Millisecond}
		c.ask = func(_ context.Context, node cluster.NodeID, _ []byte) ([]byte, error) {
			asked = append(asked, string(node))
			b := answers[0]
			if answers = answers[1:]; b == nil {
				return nil, abi.NewError(abi.ErrUnreachable, "no")
			}
			return b, nil
		}
		gate, entered := make(chan struct{}), make(chan struct{})
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			out.Kind = abi.OutReply
			if ev.Method == "block" {
				close(entered)
				<-gate
			}
			return nil
		}
		n.silo.waits.Suspects()
		done := make(chan error, 2)
		go func() { _, err := n.call("a", "block", ""); done <- err }()
		<-entered
		over := n.silo.waits.Leaving(&abi.Envelope{Target: id("b"), Caller: id("a"), Chain: []abi.Identity{id("a")}}, "n2")
		env := n.env("a", "m", "")
		env.Caller, env.Chain = id("z"), []abi.Identity{id("z")}
		if err := n.api.Post(env, func(_ []byte, err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		ids := n.silo.waits.TakeSuspects()
		if len(ids) != 1 || ids[0] != id("a") {
			t.Fatalf("suspects %v", ids)
		}
		suspects := []suspect{{id: ids[0], tries: 1}}
		for i, again := range []bool{true, true, false, true} { // unreachable, garbage, no ring, a ring that does not stand
			if got := c.look(suspects); (len(got) == 1) != again {
				t.Errorf("look %d: again %v", i, got)
			}
		}
		if len(asked) != 5 {
			t.Errorf("asked %q", asked)
		}
		close(gate)
		over()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("a call that is in no ring: %v", err)
			}
		}
	})
}

// However long other nodes do not answer, a ring is found once they do.
func TestAChaserAmongNodesThatAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, nil)
		n.kind.Limits.Turn = time.Hour
		late := true
		c := &chaser{silo: n.silo, self: "n1", delay: chaseDelay}
		c.ask = func(_ context.Context, _ cluster.NodeID, b []byte) ([]byte, error) {
			q, err := readQuestion(b)
			switch {
			case late || err != nil:
				return nil, abi.NewError(abi.ErrTimeout, "not yet")
			case q.reach == nil:
				return abi.AppendBool(nil, true), nil
			}
			return appendAnswer(nil, &answer{anchors: []uint64{7}, steps: []actor.Step{st("b", "a", "n1", 8)}}), nil
		}
		gate, entered := make(chan struct{}), make(chan struct{})
		n.turn = func(h *actor.Host, ev *abi.Event, out *abi.Output) error {
			close(entered)
			<-gate
			out.Kind = abi.OutReply
			return nil
		}
		n.silo.waits.Suspects()
		done := make(chan error, 1)
		go func() { _, err := n.call("a", "block", ""); done <- err }()
		<-entered
		over := n.silo.waits.Leaving(&abi.Envelope{Target: id("b"), Caller: id("a"), Chain: []abi.Identity{id("a")}}, "n2")
		env := n.env("a", "m", "")
		env.Deadline = time.Now().Add(time.Hour)
		env.Caller, env.Chain = id("b"), []abi.Identity{id("b")}
		told := make(chan error, 1)
		if err := n.api.Post(env, func(_ []byte, err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
		suspects := []suspect{{id: id("a"), tries: 1}}
		for i := range 100 {
			suspects = c.look(suspects)
			if len(suspects) != 1 {
				t.Fatalf("it gave up after %d looks", i+1)
			}
			if pause := time.Until(suspects[0].due); pause <= 0 || pause > chasePause {
				t.Errorf("look %d: the next one is in %v", i, pause)
			}
		}
		late = false
		c.look(suspects)
		if err := <-told; abi.CodeOf(err) != abi.ErrDeadlock {
			t.Errorf("%v", err)
		}
		close(gate)
		over()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
