package counter_test

import (
	"testing"

	"github.com/wasilo/wasilo/guests/examples/go/counter"
	"github.com/wasilo/wasilo/guests/go/wasilo"
	"github.com/wasilo/wasilo/guests/go/wasilotest"
)

func TestCounter(t *testing.T) {
	node := wasilotest.New(t, counter.Kind)
	a, b := wasilo.ID("counter", "a"), wasilo.ID("counter", "b")
	add := func(id wasilo.Identity, by, want int64) {
		t.Helper()
		v, err := wasilotest.Call[counter.Value](node, id, "add", counter.Add{By: by})
		if err != nil || v.Value != want {
			t.Errorf("%s add %d: %d, %v, want %d", id, by, v.Value, err, want)
		}
	}
	get := func(id wasilo.Identity, want int64) {
		t.Helper()
		v, err := wasilotest.Call[counter.Value](node, id, "get", wasilo.None{})
		if err != nil || v.Value != want {
			t.Errorf("%s get: %d, %v, want %d", id, v.Value, err, want)
		}
	}
	get(a, 0)
	add(a, 2, 2)
	add(a, -5, -3)
	add(b, 1, 1)
	get(a, -3)
	get(b, 1)
}
