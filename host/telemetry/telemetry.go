package telemetry

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wasilo/wasilo/cluster"
)

// MaxKinds is how many kinds have a label of their own.
const MaxKinds = 1024

// otherKind stands for the kinds past MaxKinds.
const otherKind = "_other"

// Telemetry collects a node's figures in a registry of its own. Its methods may be called from any goroutine.
type Telemetry struct {
	registry *prometheus.Registry
	source   atomic.Pointer[func() Snapshot]

	kinds atomic.Pointer[map[string]*kind] // copied on write: kinds are few and stay
	grow  sync.Mutex                       // serialises those copies
	other kind

	actors, leases atomic.Int64
	blocked        atomic.Uint64
}

// kind holds the pushed figures of one kind.
type kind struct {
	requests, resolves histogram
	wakes              histogram
	attempts           atomic.Uint64 // beyond the first
	retried            [len(outcomes)]atomic.Uint64
}

// outcomes are the known ends of a retried request. The zero outcome stands for one that is not known here.
var outcomes = [...]cluster.RetryOutcome{0, cluster.RetrySucceeded, cluster.RetryTimedOut, cluster.RetryFailed}

var (
	_ cluster.Metrics      = (*Telemetry)(nil)
	_ prometheus.Collector = (*Telemetry)(nil)
)

// New returns an empty collection that shows the Go runtime and the process too.
func New() *Telemetry {
	t := &Telemetry{registry: prometheus.NewRegistry()}
	t.kinds.Store(&map[string]*kind{})
	t.registry.MustRegister(t, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return t
}

// Handler serves the figures in Prometheus' formats.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// Watch sets where a scrape asks for what the node counts by itself. It is called from the goroutine of the scrape, by
// several at once if need be.
func (t *Telemetry) Watch(source func() Snapshot) { t.source.Store(&source) }

// kind finds or makes the figures of a kind.
func (t *Telemetry) kind(name string) *kind {
	if k := (*t.kinds.Load())[name]; k != nil {
		return k
	}
	t.grow.Lock()
	defer t.grow.Unlock()
	old := *t.kinds.Load()
	if k := old[name]; k != nil {
		return k
	}
	if len(old) >= MaxKinds {
		return &t.other
	}
	next := maps.Clone(old)
	k := &kind{}
	next[name] = k
	t.kinds.Store(&next)
	return k
}

// RecordRequestLatency counts one request that succeeded.
func (t *Telemetry) RecordRequestLatency(id cluster.Identity, d time.Duration) {
	t.kind(id.Kind()).requests.observe(d)
}

// RecordResolveLatency counts one resolve that missed the PID cache and succeeded.
func (t *Telemetry) RecordResolveLatency(id cluster.Identity, d time.Duration) {
	t.kind(id.Kind()).resolves.observe(d)
}

// RecordWake counts one hibernated actor that was woken, and how long that took.
func (t *Telemetry) RecordWake(kind string, d time.Duration) { t.kind(kind).wakes.observe(d) }

// RecordRetry counts one request that took more than one attempt.
func (t *Telemetry) RecordRetry(id cluster.Identity, attempts int, outcome cluster.RetryOutcome) {
	k := t.kind(id.Kind())
	k.attempts.Add(uint64(max(attempts-1, 0)))
	i := int(outcome)
	if i >= len(outcomes) {
		i = 0
	}
	k.retried[i].Add(1)
}

// RecordBlockList counts one node put on the block list.
func (t *Telemetry) RecordBlockList(cluster.NodeID) { t.blocked.Add(1) }

// SetActorCount sets how many activations of this node have started and not ended.
func (t *Telemetry) SetActorCount(n int) { t.actors.Store(int64(n)) }

// SetLeases sets how many leases are in force.
func (t *Telemetry) SetLeases(n int) { t.leases.Store(int64(n)) }
