//go:build unix

package consensus

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPropose is an entry's way through three voters on one machine, over real links and onto real disks.
func BenchmarkPropose(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			w := newWorld(b, newLoopback(), abc...)
			w.start(nil, abc...)
			l := w.leader()
			var n atomic.Int64
			entry := make([]byte, 100)
			b.ResetTimer()
			done := make(chan struct{})
			for range callers {
				go func() {
					defer func() { done <- struct{}{} }()
					for n.Add(1) <= int64(b.N) {
						if _, _, err := l.Propose(b.Context(), entry); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			for range callers {
				<-done
			}
		})
	}
}

// BenchmarkIdle is what three voters of one process cost while nothing happens: milliseconds of CPU in a second.
func BenchmarkIdle(b *testing.B) {
	w := newWorld(b, newLoopback(), abc...)
	w.start(nil, abc...)
	w.propose("one")
	before, began := cpu(), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(float64(cpu()-before)/float64(time.Millisecond)/time.Since(began).Seconds(), "cpu-ms/s")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
