package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// stalls notes when the machine stands still: a busy host of virtual machines, or too many processes. What is measured then says
// little of the cluster; what is checked holds all the same.
type stalls struct {
	work  sync.WaitGroup
	spans []verdict.Span
}

const (
	stallTick  = 10 * time.Millisecond
	stallLeast = 200 * time.Millisecond // what is noted
)

func (w *stalls) start(stop <-chan struct{}) {
	w.work.Go(func() {
		tick := time.NewTicker(stallTick)
		defer tick.Stop()
		before := turnlog.Monotonic()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := turnlog.Monotonic()
			if d := time.Duration(now - before); d >= stallLeast {
				w.spans = append(w.spans, verdict.Span{Kind: "stall", From: before, To: now,
					What: fmt.Sprintf("the machine stood still for %v", d.Round(10*time.Millisecond))})
			}
			before = now
		}
	})
}

func (w *stalls) wait() []verdict.Span {
	w.work.Wait()
	return w.spans
}
