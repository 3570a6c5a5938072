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

// Surrender implements [cluster.Mover]. With the zero part it is what a node does that is drained, before [Silo.Drain].
func (s *Silo) Surrender(ctx context.Context, part cluster.Part) error {
	began := time.Now()
	for {
		all := s.among(&part)
		if len(all) == 0 {
			return nil
		}
		pause, why, err := s.surrender(ctx, all, began)
		if err == nil && pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err == nil {
			continue
		}
		for _, e := range s.among(&part) {
			e.act.Resume()
		}
		return errors.Join(err, why)
	}
}

// surrender asks some activations to end in good order and waits until they have or could not. It returns for how long to pause before the
// rest is asked again, and why one could not be kept, if one could not. The error is ctx's.
func (s *Silo) surrender(ctx context.Context, all []*entry, began time.Time) (pause time.Duration, why, err error) {
	type departure struct {
		*entry
		failed <-chan struct{}
	}
	var going []departure
	for _, e := range all {
		if e.since.After(began) && time.Since(e.act.LastUsed()) < lull {
			pause = max(pause, lull)
			continue
		}
		failed := e.failing()
		s.handOver(e)
		going = append(going, departure{e, failed})
	}
	for _, d := range going {
		select {
		case <-d.gone:
		case <-d.failed:
			if d.plain.Load() {
				break // it is passivated next
			}
			pause = max(pause, keepAgain)
			if cause := d.refusal.Load(); cause != nil {
				why = fmt.Errorf("the state of %s cannot be kept: %w", d.lease.Identity, *cause)
			}
		case <-ctx.Done():
			return 0, why, ctx.Err()
		}
	}
	return pause, why, nil
}

// handOver asks an activation to end in good order. What waited in its mailbox goes to wherever the cluster has it wait.
func (s *Silo) handOver(e *entry) {
	sleeps := e.kind.stays() && e.canEverSleep()
	if !sleeps && !e.plain.Load() && e.kind.stays() && e.act.Status().Sleeps { // it is of an older version of its module
		s.states.count[dropReplaced].Add(1)
	}
	e.act.Surrender(reasonMoved, sleeps).Forward(s.api)
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
