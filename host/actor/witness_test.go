package actor

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// notes is a witness that a test reads.
type notes struct {
	mu    sync.Mutex
	lines []string
	last  time.Time
	count uint64
}

func (n *notes) note(at time.Time, what string, id abi.Identity, e abi.Epoch, activation uint64) {
	if at.Before(n.last) {
		what += " before what came before"
	}
	n.last = at
	n.lines = append(n.lines, fmt.Sprint(what, " ", id, " ", e.Index, " ", activation))
}

func (n *notes) Enabled(id abi.Identity, e abi.Epoch) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count++
	n.note(time.Now(), "enabled", id, e, n.count)
	return n.count
}

func (n *notes) Checked(at time.Time, id abi.Identity, e abi.Epoch, activation uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(at, "checked", id, e, activation)
}

func (n *notes) Answered(at time.Time, id abi.Identity, e abi.Epoch, activation uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(at, "answered", id, e, activation)
}

// A turn that broke has answered nothing under the lease: its caller is told that it broke.
func TestWitness(t *testing.T) {
	n := &notes{}
	w := newWorld(t)
	id := w.id("a")
	w.define("a", func(_ *Host, ev *abi.Event, out *abi.Output) error {
		if ev.Method == "break" {
			return errors.New("broken")
		}
		out.Payload = ev.Payload
		return nil
	})
	a := w.at(id)
	a.cfg.Witness = n // nothing has come yet
	for _, method := range []string{"m", "m", "break"} {
		env := &abi.Envelope{Target: id, Method: method, Deadline: time.Now().Add(time.Minute)}
		if _, err := a.Deliver(t.Context(), env); (err != nil) != (method == "break") {
			t.Errorf("%s: %v", method, err)
		}
	}
	index := a.Epoch().Index
	var want []string
	for _, what := range []string{"enabled", "checked", "answered", "checked", "answered", "checked"} {
		want = append(want, fmt.Sprint(what, " k/a ", index, " 1"))
	}
	if !slices.Equal(n.lines, want) {
		t.Errorf("%q, want %q", n.lines, want)
	}
}
