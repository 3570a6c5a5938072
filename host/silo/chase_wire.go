package silo

import (
	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/actor"
)

// What nodes ask each other about waits, in CBOR. Identities are text, "kind/identity".
//
//	question = [0, [* [caller, waiter, target]]]     ; messages that were sent here: what do they wait for?
//	         / [1, [* [from, edge: uint]]]           ; does each of these waits still stand?
//	answer   = [[* anchor: uint], [* step], cut: bool]  ; an anchor a message
//	         / bool
//	step     = [caller, waiter, target, from, edge: uint, node: text]
const (
	askReach uint64 = iota
	askHold
)

// question is one of the two.
type question struct {
	reach []actor.Wait
	hold  []hold
}

// hold is an edge by which an actor waits.
type hold struct {
	from abi.Identity
	edge uint64
}

// answer is what a node knows of messages that were sent to it.
type answer struct {
	anchors []uint64
	steps   []actor.Step
	cut     bool // there is more
}

const (
	maxHolds = 4 * maxHops * maxAsking // more than a ring of the longest kind
	maxNode  = 63                      // bytes of a node's id
)

func appendQuestion(b []byte, q *question) []byte {
	b = abi.AppendArray(b, 2)
	if q.reach == nil {
		b = abi.AppendArray(abi.AppendUint(b, askHold), len(q.hold))
		for _, h := range q.hold {
			b = abi.AppendUint(appendIdentity(abi.AppendArray(b, 2), h.from), h.edge)
		}
		return b
	}
	b = abi.AppendArray(abi.AppendUint(b, askReach), len(q.reach))
	for _, w := range q.reach {
		b = appendWait(abi.AppendArray(b, 3), w)
	}
	return b
}

func readQuestion(b []byte) (*question, error) {
	r := abi.NewReader(b)
	q := new(question)
	items(&r, 2)
	switch kind := r.Uint(); {
	case r.Err() != nil:
	case kind == askReach:
		n := count(&r, maxAsking)
		q.reach = make([]actor.Wait, 0, n)
		for range n {
			items(&r, 3)
			q.reach = append(q.reach, wait(&r))
		}
	case kind == askHold:
		n := count(&r, maxHolds)
		q.hold = make([]hold, 0, n)
		for range n {
			items(&r, 2)
			q.hold = append(q.hold, hold{identity(&r), r.Uint()})
		}
	default:
		return nil, abi.NewError(abi.ErrUnsupported, "this version knows no such question about waits")
	}
	r.End()
	return q, r.Err()
}

func appendAnswer(b []byte, a *answer) []byte {
	b = abi.AppendArray(abi.AppendArray(b, 3), len(a.anchors))
	for _, edge := range a.anchors {
		b = abi.AppendUint(b, edge)
	}
	b = abi.AppendArray(b, len(a.steps))
	for _, s := range a.steps {
		b = appendIdentity(appendWait(abi.AppendArray(b, 6), s.Wait), s.From)
		b = abi.AppendText(abi.AppendUint(b, s.Edge), s.Node)
	}
	return abi.AppendBool(b, a.cut)
}

// readAnswer reads the answer to a question about so many messages.
func readAnswer(b []byte, asked int) (*answer, error) {
	r := abi.NewReader(b)
	a := new(answer)
	items(&r, 3)
	n := count(&r, maxAsking)
	if n != asked {
		r.Fail("the answer is about other messages than the question")
	}
	for range n { // not asked: it is what came that bounds this
		a.anchors = append(a.anchors, r.Uint())
	}
	for range count(&r, maxSteps) {
		items(&r, 6)
		s := actor.Step{Wait: wait(&r), From: identity(&r), Edge: r.Uint()}
		if s.Node = r.Text(); len(s.Node) > maxNode {
			r.Fail("the id of a node is too long")
		}
		a.steps = append(a.steps, s)
	}
	a.cut = r.Bool()
	r.End()
	return a, r.Err()
}

func readHolds(b []byte) (bool, error) {
	r := abi.NewReader(b)
	all := r.Bool()
	r.End()
	return all, r.Err()
}

func appendWait(b []byte, w actor.Wait) []byte {
	return appendIdentity(appendIdentity(appendIdentity(b, w.Caller), w.Waiter), w.Target)
}

func appendIdentity(b []byte, id abi.Identity) []byte { return abi.AppendText(b, id.Key()) }

func wait(r *abi.Reader) actor.Wait {
	return actor.Wait{Caller: identity(r), Waiter: identity(r), Target: identity(r)}
}

func identity(r *abi.Reader) (id abi.Identity) {
	text := r.Text()
	if r.Err() != nil {
		return id
	}
	id, err := abi.ParseIdentity(text)
	if err != nil {
		r.Fail("no identity: " + err.Error())
	}
	return id
}

func items(r *abi.Reader, n int) {
	if got := r.Array(); got != n {
		r.Fail("an array of another length than it should have")
	}
}

// count reads the head of an array; after a failure it is 0.
func count(r *abi.Reader, most int) int {
	n := r.Array()
	if n > most {
		r.Fail("more items than are allowed")
	}
	if r.Err() != nil {
		return 0
	}
	return n
}
