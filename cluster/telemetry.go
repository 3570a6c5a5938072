package cluster

import (
	"context"
	"fmt"
	"log/slog"
)

// Telemetry exports the events of the cluster layer to an outside system, beside [Metrics]. It is called by one goroutine of
// its own, which nobody waits for but the end of a shutdown. An error or a panic is reported in the log; the next event comes
// all the same.
type Telemetry interface {
	// Export exports one event. ctx ends when a shutdown has used up its time.
	Export(ctx context.Context, ev Event) error
}

// export hands every event of sub to t until the stream ends.
func export(ctx context.Context, sub *Subscription, t Telemetry, log *slog.Logger) {
	var failures uint64
	for {
		ev, err := sub.Next(ctx)
		if err != nil {
			if err == ErrEventsLagged {
				log.Warn("telemetry is too slow for the cluster's events and gets no more of them")
			}
			return
		}
		if err := exportOne(ctx, t, ev); err != nil {
			if failures++; seldom(failures) {
				log.Warn("telemetry failed to export an event", "event", ev.Type, "seq", ev.Seq, "err", err, "failures", failures)
			}
		}
	}
}

func exportOne(ctx context.Context, t Telemetry, ev Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return t.Export(ctx, ev)
}
