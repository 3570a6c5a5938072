package telemetry

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wasilo/wasilo/abi"
)

// Snapshot is what a node counts by itself, at one moment. Counters only grow for a kind, whatever becomes of its module.
type Snapshot struct {
	Version   string // of the binary
	Kinds     []KindCounts
	Bytes     int64             // that the activations are expected to take
	Evictions uint64            // activations hibernated or passivated to make room
	Sleepers  int               // hibernated actors
	Asleep    int64             // bytes of memory that they take
	Dropped   map[string]uint64 // states of hibernated actors given up, by why
	Waiting   int               // actors that wait for others
	Modules   map[string]int    // module files by state
	Members   map[string]int    // nodes of the cluster by state, as this one sees them; nil: no cluster
	Gateway   *GatewayCounts    // nil: the node has no gateway
	Link      *LinkCounts       // nil: the node has no link
	Quorum    *QuorumCounts     // nil: there are no voters
	Memory    *MemoryCounts     // nil: it was not looked at yet
}

// MemoryCounts is what the node's actors take of the memory.
type MemoryCounts struct {
	Budget   int64            // bytes that they may take together
	Parts    map[string]int64 // bytes that they take, by part
	Pressure float64          // how scarce memory is, 0 to 1
	Refused  uint64           // times that a guest was refused growth since the budget was spent
}

// KindCounts is what activations of one kind did since the node started.
type KindCounts struct {
	Kind          string
	Turns         uint64
	Fuel          uint64 // units that turns of guests used
	Inline        uint64 // turns on the caller's goroutine
	Traps         uint64 // turns that broke their instance
	Limits        uint64 // turns that exceeded a limit
	Deadlocks     uint64 // messages refused since the turn would have waited for itself
	MailboxFull   uint64 // messages refused since too many waited
	Expired       uint64 // messages whose deadline passed while they waited
	StartFailures uint64 // instances that could not be started

	Hibernations    uint64 // states kept
	Wakes           uint64 // instances made of those
	CaptureFailures uint64 // states that could not be kept; the actors stayed active
	WakeFailures    uint64 // instances that could not be made of a state
	HeldBack        uint64 // starts refused since earlier ones failed
	Backoff         bool   // starts are being held back
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("wasilo_"+name, help, labels, nil)
}

var (
	descRequests  = desc("request_duration_seconds", "Time of requests that succeeded, retries included.", "kind")
	descResolves  = desc("resolve_duration_seconds", "Time of resolves that missed the PID cache and succeeded.", "kind")
	descRetried   = desc("retried_requests_total", "Requests that took more than one attempt, by how they ended.", "kind", "outcome")
	descAttempts  = desc("retry_attempts_total", "Attempts beyond a request's first.", "kind")
	descBlocked   = desc("block_list_applied_total", "Nodes put on the block list.")
	descActors    = desc("actors", "Activations on this node that have started and not ended.")
	descLeases    = desc("leases", "Leases in force on this node.")
	descTurns     = desc("turns_total", "Turns of actors.", "kind")
	descInline    = desc("turns_inline_total", "Turns that ran on their caller's goroutine.", "kind")
	descFuel      = desc("fuel_total", "Fuel that turns of guests used, in units of the forge's table of weights: some 4 to 11 a nanosecond.", "kind")
	descErrors    = desc("actor_errors_total", "Turns that broke, messages that were refused, instances that did not start.", "kind", "code")
	descBackoff   = desc("kind_backoff", "1 while starts of the kind, or of one of its actors, are held back since earlier ones failed.", "kind")
	descBytes     = desc("activation_bytes", "Bytes that the activations are expected to take.")
	descEvictions = desc("evictions_total", "Activations passivated to make room.")
	descSleepers  = desc("sleeping_actors", "Hibernated actors on this node.")
	descAsleep    = desc("sleeping_bytes", "Bytes of memory that hibernated actors take.")
	descDropped   = desc("sleeping_dropped_total", "States of hibernated actors given up, by why.", "reason")
	descSlept     = desc("hibernations_total", "Actors hibernated, by how it went: ok, or failed, then they stayed active.", "kind", "outcome")
	descWakes     = desc("wakes_total", "Hibernated actors woken, by how it went: ok or failed.", "kind", "outcome")
	descWakeTime  = desc("wake_duration_seconds", "Time from finding the state of a hibernated actor to its instance.", "kind")
	descWaiting   = desc("waiting_actors", "Actors that wait for other actors.")
	descModules   = desc("module_files", "Module files in the directory of actors, by state.", "state")
	descMembers   = desc("cluster_members", "Nodes of the cluster by state, as this node sees them, itself included.", "state")
	descMemory    = desc("memory_bytes", "Bytes of memory that actors take, by part.", "part")
	descBudget    = desc("memory_budget_bytes", "Bytes of memory that actors may take together.")
	descPressure  = desc("memory_pressure", "How scarce memory is, from 0 to 1.")
	descRefused   = desc("memory_growth_refused_total", "Times that a guest was refused memory since all together have what they may.")
	descBuild     = desc("build_info", "1, labelled by the versions of the binary.", "version", "goversion")
)

// Describe implements [prometheus.Collector].
func (t *Telemetry) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{descRequests, descResolves, descRetried, descAttempts, descBlocked, descActors, descLeases,
		descTurns, descInline, descFuel, descErrors, descBackoff, descBytes, descEvictions, descSleepers, descAsleep, descDropped, descSlept, descWakes,
		descWakeTime, descWaiting, descModules, descMembers, descMemory, descBudget, descPressure, descRefused, descBuild} {
		ch <- d
	}
	describeGateway(ch)
	describeLink(ch)
	describeQuorum(ch)
}

// Collect implements [prometheus.Collector].
func (t *Telemetry) Collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descActors, float64(t.actors.Load()))
	ch <- gauge(descLeases, float64(t.leases.Load()))
	ch <- counter(descBlocked, t.blocked.Load())
	for name, k := range *t.kinds.Load() {
		k.collect(ch, name)
	}
	t.other.collect(ch, otherKind)
	if source := t.source.Load(); source != nil {
		s := (*source)()
		s.collect(ch)
	}
}

func (k *kind) collect(ch chan<- prometheus.Metric, name string) {
	if m := k.requests.metric(descRequests, name); m != nil {
		ch <- m
	}
	if m := k.wakes.metric(descWakeTime, name); m != nil {
		ch <- m
	}
	if m := k.resolves.metric(descResolves, name); m != nil {
		ch <- m
	}
	if n := k.attempts.Load(); n > 0 {
		ch <- counter(descAttempts, n, name)
	}
	for i := range k.retried {
		if n := k.retried[i].Load(); n > 0 {
			ch <- counter(descRetried, n, name, outcomes[i].String())
		}
	}
}

func (s *Snapshot) collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descBuild, 1, s.Version, runtime.Version())
	ch <- gauge(descBytes, float64(s.Bytes))
	ch <- gauge(descWaiting, float64(s.Waiting))
	ch <- counter(descEvictions, s.Evictions)
	ch <- gauge(descSleepers, float64(s.Sleepers))
	ch <- gauge(descAsleep, float64(s.Asleep))
	for why, n := range s.Dropped {
		ch <- counter(descDropped, n, why)
	}
	for state, n := range s.Modules {
		ch <- gauge(descModules, float64(n), state)
	}
	for state, n := range s.Members {
		ch <- gauge(descMembers, float64(n), state)
	}
	if s.Gateway != nil {
		s.Gateway.collect(ch)
	}
	if s.Link != nil {
		s.Link.collect(ch)
	}
	if s.Quorum != nil {
		s.Quorum.collect(ch)
	}
	if m := s.Memory; m != nil {
		for part, n := range m.Parts {
			ch <- gauge(descMemory, float64(n), part)
		}
		ch <- gauge(descBudget, float64(m.Budget))
		ch <- gauge(descPressure, m.Pressure)
		ch <- counter(descRefused, m.Refused)
	}
	kinds := s.Kinds
	if len(kinds) > MaxKinds {
		kinds = append(kinds[:MaxKinds:MaxKinds], sum(kinds[MaxKinds:]))
	}
	for i := range kinds {
		k := &kinds[i]
		ch <- counter(descTurns, k.Turns, k.Kind)
		ch <- counter(descInline, k.Inline, k.Kind)
		if k.Fuel > 0 { // native kinds have none
			ch <- counter(descFuel, k.Fuel, k.Kind)
		}
		if k.Hibernations+k.CaptureFailures+k.Wakes+k.WakeFailures > 0 {
			ch <- counter(descSlept, k.Hibernations, k.Kind, "ok")
			ch <- counter(descSlept, k.CaptureFailures, k.Kind, "failed")
			ch <- counter(descWakes, k.Wakes, k.Kind, "ok")
			ch <- counter(descWakes, k.WakeFailures, k.Kind, "failed")
		}
		held := 0.0
		if k.Backoff {
			held = 1
		}
		ch <- gauge(descBackoff, held, k.Kind)
		for _, e := range [...]struct {
			code  abi.Code
			count uint64
		}{{abi.ErrTrap, k.Traps}, {abi.ErrLimitExceeded, k.Limits}, {abi.ErrDeadlock, k.Deadlocks}, {abi.ErrMailboxFull, k.MailboxFull},
			{abi.ErrTimeout, k.Expired}, {abi.ErrActivationFailed, k.StartFailures}, {abi.ErrOverloaded, k.HeldBack}} {
			ch <- counter(descErrors, e.count, k.Kind, e.code.String())
		}
	}
}

// sum adds up the kinds that get no label of their own.
func sum(kinds []KindCounts) KindCounts {
	out := KindCounts{Kind: otherKind}
	for _, k := range kinds {
		out.Turns += k.Turns
		out.Inline += k.Inline
		out.Fuel += k.Fuel
		out.Traps += k.Traps
		out.Limits += k.Limits
		out.Deadlocks += k.Deadlocks
		out.MailboxFull += k.MailboxFull
		out.Expired += k.Expired
		out.StartFailures += k.StartFailures
		out.Hibernations += k.Hibernations
		out.Wakes += k.Wakes
		out.CaptureFailures += k.CaptureFailures
		out.WakeFailures += k.WakeFailures
		out.HeldBack += k.HeldBack
		out.Backoff = out.Backoff || k.Backoff
	}
	return out
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(d *prometheus.Desc, v uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}
