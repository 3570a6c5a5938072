package cluster

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// Runtime is the one loop around the core: it serialises its inputs, carries its effects out, and empties its queue of events.
// Effects on the PID cache are carried out under the lock, so that the cache follows the ledger exactly; everything that calls
// out is done after it. Its methods may be called from any goroutine.
type Runtime struct {
	cfg     Config
	log     *slog.Logger
	base    time.Time // the core's now counts from it
	cache   *pidCache
	bridges PartitionBridges
	events  *EventStream
	metrics *guardedMetrics // nil: nobody wants figures
	status  StatusStore

	gate     gate
	view     atomic.Pointer[View]
	couriers atomic.Int64 // identities whose posts are carried by a courier
	shutting atomic.Bool
	_        [64]byte // what requests read is apart from what activations write
	carried  carried
	sends    atomic.Uint64 // numbers what is posted to other nodes or waits, so that it keeps its order
	senders  senders
	lost     atomic.Uint64 // messages that failed and had nobody to be told
	invented atomic.Uint64 // messages under epochs that the voters have never given
	dirty    atomic.Bool   // there are events or gauges to flush
	flushing sync.Mutex
	flushed  gauges // guarded by flushing
	batch    []Event

	mu      sync.Mutex
	machine *core.Machine
	gauges  gauges                     // as of the last step
	waits   map[Identity]chan struct{} // closed when the core says Wake
	changed chan struct{}              // closed when the view changes; nil while nobody waits for that
	mail    map[Identity]*courier
	// maxCouriers bounds mail; never changed.
	maxCouriers int
	empty       chan struct{} // closed when the core says Empty
	isEmpty     bool
	closed      bool // no goroutine may be started any more

	topology TopologyStreamHandle // the pump's, once it runs
	ctx      context.Context      // of the runtime's own goroutines
	cancel   context.CancelFunc
	work     sync.WaitGroup
	exports  sync.WaitGroup

	exportCtx     context.Context // of telemetry, which outlives the other goroutines: it exports the last event too
	cancelExports context.CancelFunc

	done chan struct{} // closed when the shutdown is complete
	err  error         // set before done is closed
}

type gauges struct{ leases, actors int }

func newRuntime(cfg Config) *Runtime {
	r := &Runtime{cfg: cfg, log: cfg.Log, base: time.Now(), cache: newPIDCache(), events: newEventStream(),
		machine: core.NewMachine(core.Config{Self: cfg.Self.ID, Mode: cfg.Mode, Strategy: cfg.Strategy, Quorum: cfg.Quorum, Boot: cfg.Self.Boot}),
		waits:   make(map[Identity]chan struct{}), mail: make(map[Identity]*courier),
		maxCouriers: maxCouriers,
		empty:       make(chan struct{}), done: make(chan struct{})}
	r.gate.base = r.base
	if cfg.Metrics != nil {
		r.metrics = &guardedMetrics{sink: cfg.Metrics, log: cfg.Log}
		r.flushed = gauges{-1, -1} // so that zeros are set too
		r.dirty.Store(true)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.exportCtx, r.cancelExports = context.WithCancel(context.Background())
	r.view.Store(r.machine.View())
	names, _ := kindNames(cfg.Kinds) // checked with the configuration
	r.step(&core.Input{Type: core.SetKinds, Node: cfg.Self.ID, Kinds: names})
	return r
}

// now is the core's clock: monotonic, and cheaper than time.Now.
func (r *Runtime) now() time.Duration { return time.Since(r.base) }

// start waits for the first snapshot of the subscription that Install made, and lets requests through. When it fails
// nothing runs any more; it fails with [ErrSystemStopped] if a shutdown came first.
func (r *Runtime) start(ctx context.Context) error {
	if r.cfg.Telemetry != nil {
		sub := r.events.Subscribe(0)
		r.mu.Lock()
		if !r.closed {
			r.exports.Go(func() { export(r.exportCtx, sub, r.cfg.Telemetry, r.log) })
		}
		r.mu.Unlock()
	}
	first, err := r.topology.Next(ctx)
	if err == nil && first == nil {
		err = errors.New("the topology stream began with no snapshot")
	}
	if r.shutting.Load() {
		err = ErrSystemStopped
	}
	if err != nil {
		<-r.BeginShutdown(ctx)
		return err
	}
	if m, ok := first.Member(r.cfg.Self.ID); r.cfg.Mode == Member && (!ok || m.Authority != r.cfg.Self.Authority) {
		r.log.Warn("the topology does not show this node as it is configured; actors are placed by the topology",
			"node", r.cfg.Self.ID, "link", r.cfg.Self.Authority, "member", ok, "there", m.Authority)
	}
	r.HandleTopologyChanged(first)
	r.step(&core.Input{Type: core.Start})
	if !r.spawn(r.pump) {
		<-r.done
		return ErrSystemStopped
	}
	r.log.Info("the cluster has started", "cluster", r.cfg.Cluster, "node", r.cfg.Self.ID, "link", r.cfg.Self.Authority,
		"mode", r.cfg.Mode.String(), "members", first.Len())
	return nil
}

// spawn runs f on a goroutine that the shutdown waits for; false if it is too late for that.
func (r *Runtime) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spawnLocked(f)
}

func (r *Runtime) spawnLocked(f func()) bool {
	if r.closed {
		return false
	}
	r.work.Go(f)
	return true
}

// step feeds the core one input that asks no answer, and carries out what follows.
func (r *Runtime) step(in *core.Input) {
	r.mu.Lock()
	out := r.applyLocked(r.machine.Step(in, r.now()))
	r.mu.Unlock()
	r.run(out)
	r.flush()
}

// calls are effects that leave the runtime, to be made without the lock.
type calls struct {
	revoke []revocation
	forget []Loss
	accuse []core.Claim
}

type revocation struct {
	bridge PartitionBridge
	lease  Lease
}

func (r *Runtime) run(c calls) {
	r.accuse(c.accuse)
	for _, v := range c.revoke {
		v.bridge.Revoke(v.lease)
	}
	if len(c.forget) == 0 {
		return
	}
	for _, b := range r.bridges.All() {
		if k, ok := b.(Keeper); ok {
			for _, loss := range c.forget {
				k.Forget(loss)
			}
		}
	}
}

// keeps reports whether an actor without an activation has left something on this node.
func (r *Runtime) keeps(id Identity) bool {
	k, ok := r.bridges.Primary().(Keeper)
	return ok && k.Keeps(id)
}

// applyLocked carries out what may be done under the lock and returns the rest. r.mu is held.
func (r *Runtime) applyLocked(effects []core.Effect) (out calls) {
	for i := range effects {
		switch e := &effects[i]; e.Type {
		case core.Admit:
			if !e.Held {
				r.cache.put(e.Handle.(*pidEntry))
			}
		case core.Invalidate:
			r.cache.remove(e.Lease.Identity, e.Lease.Epoch)
		case core.Recheck:
			v := r.machine.View()
			r.view.Store(v)
			r.cache.recheck(v, e.Moved)
			out.accuse = append(out.accuse, r.settle(abi.Epoch{})...)
			if r.changed != nil {
				close(r.changed)
				r.changed = nil
			}
		case core.Withhold:
			r.cache.drop(e.Part.Partitions.Moved(), func(entry *pidEntry) bool { return e.Part.Withholds(entry.id.Kind(), entry.route) })
		case core.Revoke:
			gone := e.Handle.(*pidEntry)
			if gone.permit != nil {
				gone.permit.revoke()
			}
			out.revoke = append(out.revoke, revocation{gone.bridge, e.Lease})
		case core.Forget:
			// With voters a node that keeps its session loses a partition by its own release alone.
			out.forget = append(out.forget, Loss{Kind: e.Kind, Partitions: e.Moved, Epoch: e.Epoch, Planned: r.cfg.Quorum && e.Kind != ""})
		case core.Wake:
			if ch := r.waits[e.Identity]; ch != nil {
				delete(r.waits, e.Identity)
				close(ch)
			}
		case core.Empty:
			if !r.isEmpty {
				r.isEmpty = true
				close(r.empty)
			}
		}
	}
	if now := r.gaugesLocked(); r.machine.Queued() || now != r.gauges {
		r.gauges = now
		r.dirty.Store(true)
	}
	return out
}

func (r *Runtime) gaugesLocked() gauges {
	l := r.machine.Ledger()
	return gauges{leases: l.InForce(), actors: l.Started()}
}

// flush is the one adapter between the core's queue and the world. Whoever comes while another flushes leaves it to that
// one, so events keep their order and gauges end on their last value.
func (r *Runtime) flush() {
	for r.dirty.Load() && r.flushing.TryLock() {
		r.flushLocked()
		r.flushing.Unlock()
	}
}

// flushLocked publishes what is queued. r.flushing is held.
func (r *Runtime) flushLocked() {
	r.dirty.Store(false)
	r.mu.Lock()
	events := r.machine.TakeEvents(r.batch)
	now := r.gaugesLocked()
	r.mu.Unlock()

	if len(events) > 0 {
		r.events.publish(events)
	}
	if r.metrics != nil {
		for i := range events {
			if events[i].Type == core.BlockListApplied {
				r.metrics.RecordBlockList(events[i].Node)
			}
		}
		if now.leases != r.flushed.leases {
			r.metrics.SetLeases(now.leases)
		}
		if now.actors != r.flushed.actors {
			r.metrics.SetActorCount(now.actors)
		}
		r.flushed = now
	}
	clear(events) // they hold identities and reasons
	if r.batch = events; cap(events) > 1024 {
		r.batch = nil
	}
}

// random draws a number in [0, 1) for the core's jitter.
func random() float64 { return rand.Float64() }

// SetKinds says which kinds this node has: those it hosts, or in client mode those it may call. It replaces what was said
// before and may be called at any time; actors of a kind that is gone are discarded after their running turn. An invalid
// name is refused with an [*IdentityError], and nothing changes.
func (r *Runtime) SetKinds(kinds []Kind) error {
	names, err := kindNames(kinds)
	if err != nil {
		return err
	}
	r.step(&core.Input{Type: core.SetKinds, Node: r.cfg.Self.ID, Kinds: names})
	return nil
}

// SetPeerKinds says which kinds another node hosts, as it told when its link came up. It is forgotten when the
// topology no longer has the node.
func (r *Runtime) SetPeerKinds(node NodeID, kinds []Kind) error {
	if node == r.cfg.Self.ID {
		return errors.New("cluster: a peer claims this node's id " + strconv.Quote(string(node)))
	}
	names, err := kindNames(kinds)
	if err != nil {
		return err
	}
	r.step(&core.Input{Type: core.SetKinds, Node: node, Kinds: names})
	return nil
}

// IsKindRegistered reports whether this node has registered a kind, as its host or its client.
func (r *Runtime) IsKindRegistered(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Registered(kind)
}

// Callable returns nil, or why no actor of a kind can be called at present: a [*ResolveError].
func (r *Runtime) Callable(id Identity) error {
	r.mu.Lock()
	refusal := r.machine.Callable(id.Kind(), r.now())
	r.mu.Unlock()
	if refusal == 0 {
		return nil
	}
	return r.refusal(id, refusal)
}

// View returns who owns what at present.
func (r *Runtime) View() *View { return r.view.Load() }

// viewChange returns the view and a channel that is closed when there is another.
func (r *Runtime) viewChange() (*View, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.machine.View(), r.changed
}

// Lease returns the lease of an identity on this node.
func (r *Runtime) Lease(id Identity) (Lease, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Ledger().Lease(id)
}

// Leases returns how many leases of this node are in force.
func (r *Runtime) Leases() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Ledger().InForce()
}

// Blocked returns the block list, sorted.
func (r *Runtime) Blocked() []NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.Blocked()
}

// HandleBlockedNode puts a node on the block list: it owns nothing any more, its leases here are revoked, PIDs on it
// are forgotten, and BlockListApplied is published. The link layer and the operator call it.
func (r *Runtime) HandleBlockedNode(node NodeID) {
	r.step(&core.Input{Type: core.Block, Node: node})
}

// HandleLapse ends every activation of this node after its running turn: the node stood still for so long that others may have
// activated its actors, and what it knows of them may be old.
func (r *Runtime) HandleLapse() { r.step(&core.Input{Type: core.Lapse}) }

// HandleUnblockedNode takes a node off the block list.
func (r *Runtime) HandleUnblockedNode(node NodeID) {
	r.step(&core.Input{Type: core.Unblock, Node: node})
}

// HandleTopologyChanged brings a snapshot. One with the hash of the last changes nothing; another rebuilds the ownership
// before any further lease is issued.
func (r *Runtime) HandleTopologyChanged(t *Topology) {
	r.step(&core.Input{Type: core.TopologyChanged, Topology: t})
}

// HandleTopologyStreamStopped says that no snapshots come for the time being: the last one stays in force.
func (r *Runtime) HandleTopologyStreamStopped(reason error) {
	r.log.Warn("the topology stream has ended; the last snapshot stays in force", "err", reason)
	r.step(&core.Input{Type: core.StreamEnded, Reason: reason.Error()})
}

// refusal turns the core's refusal into an error.
func (r *Runtime) refusal(id Identity, refusal core.Refusal) *ResolveError {
	e := &ResolveError{Identity: id, Code: refusal.Code()}
	switch refusal {
	case core.RefusedNotStarted:
		e.Reason = ErrClusterNotStarted
	case core.RefusedUnknownKind:
		if r.cfg.Coming != nil {
			if why := r.cfg.Coming(id.Kind()); why != "" { // the view will name an owner, so it is waited for as for other nodes
				e.Code, e.Reason, e.others = abi.ErrNotReady, ErrLookupFailed, true
				e.Err = abi.NewError(e.Code, why)
				break
			}
		}
		e.Reason, e.Err = ErrKindNotRegistered, errors.New(r.kindHint(id.Kind()))
	case core.RefusedNoQuorum:
		e.Reason, e.Err = e.Code, errors.New("this node's session with the voters has run out, or has not begun: it is cut off, or too few voters are up")
	case core.RefusedUnowned:
		e.Reason, e.others = ErrLookupFailed, true
		e.Err = abi.NewError(e.Code, "the voters have given its partition to nobody at present")
	case core.RefusedNoMember:
		e.Reason, e.others = ErrLookupFailed, true
		e.Err = abi.NewError(e.Code, "no member of the cluster hosts the kind "+strconv.Quote(id.Kind())+" at present")
	case core.RefusedBlocked:
		e.Reason, e.others = ErrBlocked, true
		e.Err = errors.New("every node that hosts the kind " + strconv.Quote(id.Kind()) + " is on the block list")
	case core.RefusedShuttingDown:
		e.Reason, e.Err = ErrShuttingDown, errors.New("this node is leaving")
	default:
		e.Reason = e.Code
	}
	return e
}

// kindHint says which kinds there are, in place of one there is not.
func (r *Runtime) kindHint(kind string) string {
	const show = 8
	kinds := r.View().Kinds()
	if len(kinds) == 0 {
		return "no kind is: deploy a module that serves " + strconv.Quote(kind)
	}
	s := "there is no " + strconv.Quote(kind) + " among " + strconv.Itoa(len(kinds)) + " (" + kinds[0]
	for _, k := range kinds[1:min(show, len(kinds))] {
		s += ", " + k
	}
	if len(kinds) > show {
		s += ", …"
	}
	return s + ")"
}
