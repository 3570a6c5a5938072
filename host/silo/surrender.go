package silo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wasilo/wasilo/cluster"
)

const (
	// lull is how long an activation that began during a surrender is left alone without a message: it was made for a request of a turn that
	// is being waited for, and there may be more of them.
	lull = 20 * time.Millisecond
	// keepAgain is when a surrender tries again to keep a state that could not be kept.
	keepAgain = 100 * time.Millisecond
)

// reasonMoved is what the guest is told as the reason of its last turn.
const reasonMoved = "moved"

// departure is an activation that was surrendered.
type departure struct {
	*entry
	failed <-chan struct{} // closed when its state could not be kept
}

// Surrender implements [cluster.Mover]. With the zero part it is what a node does that is drained, before [Silo.Drain].
func (s *Silo) Surrender(ctx context.Context, part cluster.Part) error {
	began := time.Now()
	var why error // what could not be kept lately
	for {
		done := s.forwarding.done.Load()
		all := s.among(&part)
		if len(all) == 0 && s.forwarding.begun.Load() == done { // nothing can have come of messages posted anew since the look
			return nil
		}
		going, pause := s.handOver(all, began)
		if len(all) == 0 {
			pause = time.Millisecond
		}
		again, cause, err := await(ctx, going)
		if err == nil || cause != nil {
			why = cause
		}
		if pause = max(pause, again); err == nil && pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			for _, d := range going {
				d.act.Resume()
				d.settled() // for whoever else waits for its end
			}
			return errors.Join(err, why)
		}
	}
}

// handOver asks activations to end in good order. What waits in their mailboxes goes to wherever the cluster has it wait. pause is for how
// long to leave those alone that were not asked.
func (s *Silo) handOver(all []*entry, began time.Time) (going []departure, pause time.Duration) {
	for _, e := range all {
		if e.since.After(began) && time.Since(e.act.LastUsed()) < lull {
			pause = max(pause, lull)
			continue
		}
		sleeps := e.kind.stays() && e.canEverSleep()
		replaced := !sleeps && !e.plain.Load() && e.kind.stays() && e.act.Status().Sleeps // it is of an older version of its module
		failed := e.failing()
		given, done := e.act.Surrender(reasonMoved, sleeps)
		given.Forward(s.api)
		switch {
		case !done: // it ends for another reason, or in another surrender, which may be given up
			pause = max(pause, lull)
			continue
		case replaced:
			s.states.count[dropReplaced].Add(1)
		}
		going = append(going, departure{e, failed})
	}
	return going, pause
}

// await waits until each has ended or could not. again is for how long to wait before the latter are asked again, and why is the reason
// of one of them. The error is ctx's.
func await(ctx context.Context, going []departure) (again time.Duration, why, err error) {
	for _, d := range going {
		select {
		case <-d.gone:
		case <-d.failed:
			if d.plain.Load() {
				break // it is passivated next
			}
			again = keepAgain
			if cause := d.refusal.Load(); cause != nil {
				why = fmt.Errorf("the state of %s cannot be kept: %w", d.lease.Identity, *cause)
			}
		case <-ctx.Done():
			return 0, why, ctx.Err()
		}
	}
	return again, why, nil
}

// among returns the activations of a part.
func (s *Silo) among(part *cluster.Part) (all []*entry) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for id, e := range sh.entries {
			if (part.Partitions == nil || part.Partitions[e.part]) && part.HasKind(id.Kind()) {
				all = append(all, e)
			}
		}
		sh.mu.Unlock()
	}
	return all
}
