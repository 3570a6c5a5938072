package module

import (
	"slices"
	"time"
)

// quiet holds back each file until nothing was heard of it for a while. It knows no clock of its own.
type quiet struct {
	wait time.Duration
	due  map[string]time.Time
}

// heard puts the file's turn off until it was quiet from now on.
func (q *quiet) heard(name string, now time.Time) { q.due[name] = now.Add(q.wait) }

// drop takes the file's turn away.
func (q *quiet) drop(name string) { delete(q.due, name) }

// waits reports whether the file's turn is to come.
func (q *quiet) waits(name string) bool {
	_, ok := q.due[name]
	return ok
}

// take removes and returns, sorted, the files whose turn it is. What is due within a quarter of the wait comes along: the
// two halves of a rename belong together, and a kind whose file was renamed is then never missing.
func (q *quiet) take(now time.Time) []string {
	if next, ok := q.next(); !ok || next.After(now) {
		return nil
	}
	var names []string
	for name, due := range q.due {
		if !due.After(now.Add(q.wait / 4)) {
			names = append(names, name)
			delete(q.due, name)
		}
	}
	slices.Sort(names)
	return names
}

// next is the earliest turn, if there is one.
func (q *quiet) next() (next time.Time, ok bool) {
	for _, due := range q.due {
		if !ok || due.Before(next) {
			next, ok = due, true
		}
	}
	return next, ok
}
