package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// world is the nodes of one run.
type world struct {
	b    *bench
	base spec
	all  []*process // those that live; the first two make the calls
	gone []*process // stopped, and yet to be killed
}

// close ends what is left, without a word.
func (w *world) close() error {
	var errs []error
	for _, n := range slices.Concat(w.all, w.gone) {
		errs = append(errs, n.end(os.Kill))
	}
	return errors.Join(errs...)
}

// loads shares the actors between the two nodes that call, so that each calls those of the other and half of a third node's.
func (w *world) loads(owner map[string]int, doomed bool) []*load {
	loads := []*load{{Every: callEvery}, {Every: callEvery}}
	for i := range failoverActors {
		name := strconv.Itoa(i)
		at, known := owner[name]
		through, other := loads[i%2], loads[1-i%2]
		if known && at < 2 {
			through = loads[1-at]
		}
		if doomed && known && at == len(w.all)-1 {
			through.Lost = append(through.Lost, name)
			other.Eager = append(other.Eager, name)
		} else {
			through.Actors = append(through.Actors, name)
		}
	}
	return loads
}

// drive lets the nodes that call do so for a while, and from then on.
func (w *world) drive(loads []*load) error {
	for i, n := range w.all[:2] {
		if _, err := n.ask(order{Do: doDrive, Load: loads[i]}); err != nil {
			return err
		}
	}
	time.Sleep(settleFor)
	return nil
}

// owners tells on which of the nodes each actor lives, by its place among them.
func (w *world) owners() (map[string]int, error) {
	owner := make(map[string]int, failoverActors)
	for i, n := range w.all {
		t, err := n.ask(order{Do: doActors})
		if err != nil {
			return nil, err
		}
		for _, name := range t.Names {
			owner[name] = i
		}
	}
	return owner, nil
}

// add starts so many more nodes, and waits until all place actors on them.
func (w *world) add(ctx context.Context, nodes int) error {
	for range nodes {
		s := w.base
		s.ID = "n" + strconv.Itoa(len(w.all)+1)
		if len(w.all) > 0 {
			s.Join = w.all[0].at.Gossip
		}
		n, err := startProcess(ctx, w.b, s)
		if err != nil {
			return err
		}
		w.all = append(w.all, n)
	}
	return w.agree(ctx)
}

// pop takes the last node out.
func (w *world) pop() *process {
	last := w.all[len(w.all)-1]
	w.all = w.all[:len(w.all)-1]
	return last
}

// agree waits until every node says that the kind is hosted by all that live.
func (w *world) agree(ctx context.Context) error {
	var ids []string
	for _, n := range w.all {
		ids = append(ids, n.ID)
	}
	return until(ctx, "the nodes agree on "+strings.Join(ids, ", "), func() (bool, error) {
		for _, n := range w.all {
			t, err := n.ask(order{Do: doHosts})
			if err != nil || !slices.Equal(t.Names, ids) {
				return false, err
			}
		}
		return true, nil
	})
}
