package cluster

import (
	"log/slog"
	"math/bits"
	"sync/atomic"
	"time"
)

// RetryOutcome is how a request that took more than one attempt ended.
type RetryOutcome uint8

// The outcomes of a retried request.
const (
	RetrySucceeded RetryOutcome = 1 + iota
	RetryTimedOut               // the attempts or the time were used up
	RetryFailed                 // an error that is not retried
)

// String returns the outcome in lower case, fit for a label.
func (o RetryOutcome) String() string {
	switch o {
	case RetrySucceeded:
		return "succeeded"
	case RetryTimedOut:
		return "timed_out"
	case RetryFailed:
		return "failed"
	}
	return "unknown"
}

// Metrics is where the cluster layer's figures go. Methods are called from any goroutine, the first two on the way of
// requests: they must not block. They may label by kind but never by the whole identity, of which there are millions. One
// that panics is reported in the log and otherwise ignored.
type Metrics interface {
	// RecordRequestLatency is called for every request that succeeded.
	RecordRequestLatency(id Identity, d time.Duration)
	// RecordResolveLatency is called for every resolve that missed the PID cache and succeeded.
	RecordResolveLatency(id Identity, d time.Duration)
	// RecordRetry is called once for a request or Get that took more than one attempt; attempts counts the first too.
	RecordRetry(id Identity, attempts int, outcome RetryOutcome)
	// RecordBlockList is called when a node is put on the block list.
	RecordBlockList(node NodeID)
	// SetActorCount sets how many activations of this node have started and not ended.
	SetActorCount(n int)
	// SetLeases sets how many leases are in force.
	SetLeases(n int)
}

// NopMetrics drops every figure.
type NopMetrics struct{}

var _ Metrics = NopMetrics{}

// RecordRequestLatency does nothing, like all methods of NopMetrics.
func (NopMetrics) RecordRequestLatency(Identity, time.Duration) {}
func (NopMetrics) RecordResolveLatency(Identity, time.Duration) {}
func (NopMetrics) RecordRetry(Identity, int, RetryOutcome)      {}
func (NopMetrics) RecordBlockList(NodeID)                       {}
func (NopMetrics) SetActorCount(int)                            {}
func (NopMetrics) SetLeases(int)                                {}

// guardedMetrics keeps a failing sink from harming what it measures.
type guardedMetrics struct {
	sink     Metrics
	log      *slog.Logger
	failures atomic.Uint64
}

var _ Metrics = (*guardedMetrics)(nil)

func (g *guardedMetrics) RecordRequestLatency(id Identity, d time.Duration) {
	defer g.guard("RecordRequestLatency")
	g.sink.RecordRequestLatency(id, d)
}

func (g *guardedMetrics) RecordResolveLatency(id Identity, d time.Duration) {
	defer g.guard("RecordResolveLatency")
	g.sink.RecordResolveLatency(id, d)
}

func (g *guardedMetrics) RecordRetry(id Identity, attempts int, outcome RetryOutcome) {
	defer g.guard("RecordRetry")
	g.sink.RecordRetry(id, attempts, outcome)
}

func (g *guardedMetrics) RecordBlockList(node NodeID) {
	defer g.guard("RecordBlockList")
	g.sink.RecordBlockList(node)
}

func (g *guardedMetrics) SetActorCount(n int) {
	defer g.guard("SetActorCount")
	g.sink.SetActorCount(n)
}

func (g *guardedMetrics) SetLeases(n int) {
	defer g.guard("SetLeases")
	g.sink.SetLeases(n)
}

// guard is deferred around every call of the sink.
func (g *guardedMetrics) guard(method string) {
	if p := recover(); p != nil {
		if n := g.failures.Add(1); seldom(n) {
			g.log.Warn("the metrics sink panicked; its figures have a gap", "method", method, "panic", p, "failures", n)
		}
	}
}

// seldom picks 1, 2, 4, 8, … of a count: enough to notice something that keeps failing, too few to fill a log.
func seldom(n uint64) bool { return bits.OnesCount64(n) == 1 }
