package main

import (
	"context"
	"time"
)

// inTurn is a part of which a target's run is a single one, as long as it takes: the targets are run in turn, again and again, until the
// time is up for all of them together. A target that failed has its turns as the others.
type inTurn interface {
	part
	inTurn()
}

// mostFailures is how many failures of a target the report shows in full; its counts have all.
const mostFailures = 5

// turns runs the part's targets in turn. The seed of a run is that of the soak and the number of the run: what goes on after an
// interruption has other seeds than what was before it.
func turns(ctx context.Context, s *settings, p part, st *state) error {
	for st.left() > 0 {
		i, n := 0, 0
		for k := range st.Targets {
			n += st.Targets[k].Turns
			if st.Targets[k].Turns < st.Targets[i].Turns {
				i = k
			}
		}
		s.seed = uint64(st.Began.Unix()) + uint64(n)
		if err := turn(ctx, s, p, st, i); err != nil {
			return err
		}
	}
	for i := range st.Targets {
		st.Targets[i].Done = true
	}
	return st.save()
}

// turn runs one target once. What cannot be run at all counts as a failure, and as a second, so that the soak comes to an end.
func turn(ctx context.Context, s *settings, p part, st *state, i int) error {
	t := &st.Targets[i]
	progress(s.err, p, st, i, "")
	got, err := p.run(ctx, s, t.Name, st.left(), func(stretch) {})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		got.failure, got.spent = err.Error(), max(got.spent, time.Second)
	}
	t.add(p.columns(), *t, got)
	t.Turns++
	verdict := "ok"
	if got.failure != "" {
		verdict = "FAILED\n" + got.failure
		if t.Failures++; t.Failures > 1 && t.Failures <= mostFailures {
			t.Failure += "\n\n"
		}
		if t.Failures <= mostFailures {
			t.Failure += got.failure
		}
	}
	progress(s.err, p, st, i, verdict)
	return st.save()
}
