package wasilo

import (
	"bytes"
	"errors"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// frail cannot be activated at first.
type frail struct{ n int64 }

var frailty error

func (f *frail) Activate(*Context) error {
	f.n += 100
	return frailty
}

func (f *frail) add(_ *Context, by int64) (int64, error) {
	f.n += by
	return f.n, nil
}

type sum struct{ n int64 }

func (s *sum) add(_ *Context, by int64) (int64, error) {
	s.n += by
	return s.n, nil
}

func (s *sum) name(c *Context, _ None) (string, error) {
	return c.Self().String() + c.Caller().String(), nil
}

// A warm instance is as good as new: it answers what one answers that is not.
func TestWarmIsNew(t *testing.T) {
	kinds := []*Definition{
		Kind("frail", Method("add", (*frail).add)),
		Kind("sum", Method("add", (*sum).add), ReadOnly("name", (*sum).name)),
	}
	one, err := Encode(int64(1))
	if err != nil {
		t.Fatal(err)
	}
	call := func(method string, payload []byte, caller Identity, self *abi.Self) []byte {
		return abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: method, Payload: payload, Token: 1, Caller: caller, Self: self})
	}
	for _, kind := range []string{"frail", "sum", "other"} {
		self := &abi.Self{Identity: ID(kind, "a"), Epoch: abi.Epoch{Generation: 1, Index: 300}, Reason: "call"}
		events := [][]byte{
			call("add", one, Identity{}, nil), // nobody said who it is
			call("add", one, Identity{}, self),
			call("add", one, Identity{}, nil),
			call("name", nil, Identity{}, nil),
			call("name", nil, ID("sum", "b"), nil),
			call("name", nil, ID("sum", "c"), &abi.Self{Identity: self.Identity, Epoch: abi.Epoch{Index: 7}, Reason: "wake"}),
			call("nothing", nil, ID("sum", "c"), nil),
			call("add", one, Identity{}, nil),
		}
		cold, warm := NewInstance(nil, kinds...), NewInstance(nil, kinds...)
		warm.warm()
		for n, ev := range events {
			frailty = nil
			if n == 1 {
				frailty = errors.New("not yet")
			}
			want, got := cold.Turn(ev), warm.Turn(ev)
			if !bytes.Equal(got, want) {
				t.Errorf("%s, event %d: %q, want %q", kind, n, got, want)
			}
		}
	}
}

// The first turn of an actor allocates nothing that its handler does not.
func TestTheFirstTurnAllocatesNothing(t *testing.T) {
	kind := Kind("sum", Method("add", (*sum).add), ReadOnly("name", (*sum).name))
	one, err := Encode(int64(1))
	if err != nil {
		t.Fatal(err)
	}
	first := abi.AppendEvent(nil, &abi.Event{Tag: abi.EventCall, Method: "add", Payload: one, Token: 1, Caller: ID("sum", "b"),
		Self: &abi.Self{Identity: ID("sum", "a"), Epoch: abi.Epoch{Index: 300}, Reason: "call"}})
	const runs = 10
	var warm []*Instance
	for range runs + 1 {
		i := NewInstance(nil, kind)
		i.warm()
		warm = append(warm, i)
	}
	allocs := testing.AllocsPerRun(runs, func() {
		if out := warm[0].Turn(first); out[0] != abi.OutReply {
			t.Errorf("%q", out)
		}
		warm = warm[1:]
	})
	if allocs != 0 {
		t.Errorf("it takes %v allocations", allocs)
	}
}
