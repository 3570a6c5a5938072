package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/engine/slot"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/host/module"
	"github.com/wasilo/wasilo/host/silo"
	"github.com/wasilo/wasilo/host/silo/sleep"
	"github.com/wasilo/wasilo/host/telemetry"
)

// Node is one wasilo node. Use [New]; start it once, shut it down once. All methods may be called from any goroutine at
// any time: before Start and after Shutdown messages are refused, and there is nothing to be found.
type Node struct {
	cfg      Config
	log      *slog.Logger
	counters counters

	// Set by Start, in this order; up is set once all that messages need is there.
	listen   net.Listener
	net      *network // nil: a cluster of one
	quorum   *quorum  // nil: there are no voters
	engine   *engine.Engine
	catalog  *module.Catalog[*engine.Module] // nil: no directory
	metrics  *telemetry.Telemetry
	silo     *silo.Silo
	sleepers *sleep.Store
	budget   *budget
	system   *cluster.System
	runtime  *cluster.Runtime
	api      *cluster.API
	gateway  *gateway.Gateway
	up       atomic.Bool
	joined   bool // the others know of it; Start's own
	moved    moved
	drain    drain

	kinds      atomic.Pointer[kinds]
	loaded     atomic.Bool // the directory was read
	serving    atomic.Bool // loaded, and not leaving
	rebuilding sync.Mutex
	leaving    atomic.Bool
	waiting    atomic.Int64 // callers in [Node.Method] for a kind to become known

	life    sync.Mutex // guards the next three
	phase   phase
	abandon context.CancelFunc // gives a start up
	settled chan struct{}      // closed when Start has ended, one way or the other

	hurry     context.Context // ends when somebody who waits for the shutdown has no more time
	hurryUp   context.CancelFunc
	parting   chan struct{} // closed when the shutdown begins
	ended     chan struct{} // closed when the shutdown is complete
	endErr    error         // set before
	work      sync.WaitGroup
	stop      sync.Once
	done      chan struct{}
	failedErr error // why the node stopped by itself; valid once done is closed
}

// phase is how far a node's life has come.
type phase uint8

const (
	fresh phase = iota
	started
	ending
)

var _ gateway.Node = (*Node)(nil)

// New checks cfg and returns a node that does nothing yet.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	n := &Node{cfg: cfg, log: cfg.Log, settled: make(chan struct{}), parting: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{})}
	n.hurry, n.hurryUp = context.WithCancel(context.Background())
	n.counters.byKind = make(map[string]*actor.Counters)
	n.kinds.Store(&kinds{})
	return n, nil
}

// What a node answers that has no life (any more).
var (
	errNotServing  = abi.NewError(abi.ErrNotReady, "the node has not started, or is still loading its modules")
	errStartedOnce = errors.New("the node was started before: make another one with host.New")
	errLeaving     = abi.NewError(abi.ErrShuttingDown, "the node is shutting down; send to another one")
	errShutDown    = errors.New("the node was shut down: make another one with host.New")
)

// Start listens, starts the parts of the node and loads the modules. When it fails, or Shutdown comes meanwhile, nothing is
// left running. ctx bounds the start, not the node.
func (n *Node) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.life.Lock()
	before := n.phase
	if before == fresh {
		n.phase, n.abandon = started, cancel
	}
	n.life.Unlock()
	switch before {
	case started:
		return errStartedOnce
	case ending:
		return errShutDown
	}
	defer close(n.settled)
	if err := n.start(ctx); err != nil {
		if n.joined { // the others place actors here by now
			bounded, cancel := context.WithTimeout(context.Background(), leaveTime)
			err = errors.Join(err, n.shut(bounded))
			cancel()
		}
		err = errors.Join(err, n.close())
		n.fail(err)
		return err
	}
	n.life.Lock()
	defer n.life.Unlock()
	if n.phase == ending { // and whoever shuts it down waits for this
		return errShutDown
	}
	n.serving.Store(true)
	return nil
}

func (n *Node) start(ctx context.Context) (err error) {
	if n.cfg.HTTP != "" {
		if n.listen, err = gateway.Listen(ctx, n.cfg.HTTP); err != nil {
			return err
		}
	}
	if n.cfg.DataDir != "" {
		if err := prepareDataDir(n.cfg.DataDir); err != nil {
			return err
		}
	}
	n.budget = newBudget(n)
	if err := n.prepareModules(); err != nil {
		return err
	}
	if err := n.installCluster(ctx); err != nil {
		return err
	}
	n.up.Store(true)
	n.startGateway()
	if n.catalog != nil {
		if err := n.catalog.Start(ctx); err != nil {
			return err
		}
	}
	n.loaded.Store(true)
	n.rebuild()
	return n.join(ctx)
}

// join makes the node one of the cluster. Its modules are loaded by then: actors that move to it find a node that can run them.
func (n *Node) join(ctx context.Context) error {
	if n.net != nil {
		if err := n.net.join(ctx, n.fail); err != nil {
			return err
		}
		n.joined = true
	}
	if n.quorum != nil {
		if err := n.quorum.open(n); err != nil {
			return err
		}
	}
	if err := n.system.Start(ctx); err != nil {
		return err
	}
	switch {
	case n.quorum != nil:
		return n.quorum.settle(ctx)
	case n.net != nil:
		return n.net.settle(ctx)
	}
	return nil
}

// prepareDataDir makes the directory and proves that it can be written.
func prepareDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w; name another with --data DIR", err)
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("data directory %s cannot be written: %w; name another with --data DIR", dir, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// installCluster makes the silo and the cluster around it, and opens the way to other nodes.
func (n *Node) installCluster(ctx context.Context) (err error) {
	n.metrics = telemetry.New()
	if err := n.openSleepers(); err != nil {
		return err
	}
	n.silo = silo.New(silo.Config{
		Kind: func(name string) (*silo.Kind, error) {
			k, err := n.find(name)
			if err != nil {
				return nil, err
			}
			return &k.Kind, nil
		},
		MaxActors: n.cfg.Limits.MaxActors, Room: n.budget.room, Pressure: n.budget.pressure, Sleepers: n.sleepers, Woken: n.metrics.RecordWake,
		Witness: n.cfg.Witness, Log: n.log,
	})
	strategy, _ := cluster.StrategyNamed(n.cfg.Net.Placement) // checked with the configuration
	if n.cfg.byQuorum() {
		n.quorum = newQuorum(n)
	}
	cfg := cluster.Config{Quorum: n.quorum != nil, Self: cluster.Node{ID: cluster.NodeID(n.cfg.ID), Authority: aloneAuthority}, Cluster: n.cfg.Cluster,
		Mode: n.cfg.Net.Mode, ReadOnly: n.readOnly, Coming: n.coming, Waiting: n.silo.Waiting, Strategy: strategy, Placement: n.silo, Metrics: n.metrics, DefaultTimeout: n.cfg.Limits.Request, Log: n.log}
	alone, err := n.readiness(&cfg)
	if err != nil {
		return err
	}
	if alone {
		cfg.Topology = cluster.StaticTopology(cfg.Self)
	} else {
		httpAddr := ""
		if n.listen != nil {
			httpAddr = n.listen.Addr().String()
		}
		services := map[string]link.Service{describeService: n.describe, waitsService: n.waits, loadingService: n.loading, blockService: n.blocked}
		var streams map[string]link.StreamHandler
		if n.quorum != nil {
			maps.Copy(services, n.quorum.services())
			streams = n.quorum.streams()
		}
		if n.net, err = openNetwork(ctx, &n.cfg, httpAddr, inbound{n}, services, streams); err != nil {
			return err
		}
		cfg.Self, cfg.Topology, cfg.Transport = n.net.self, n.net, n.silo.Transport(n.net.link)
	}
	n.system = cluster.NewSystem(cluster.SystemConfig{Log: n.log})
	ext, err := cluster.Install(n.system, cfg)
	if err != nil {
		return err
	}
	n.runtime, n.api = ext.Runtime(), ext.API()
	if n.net != nil {
		n.net.attach(n.runtime)
		n.silo.Chase(n.net.self.ID, n.net.askWaits)
	}
	n.silo.Open(n.api)
	n.budget.start()
	n.metrics.Watch(n.snapshot)
	return nil
}

// openSleepers makes the place of the node's hibernated actors.
func (n *Node) openSleepers() (err error) {
	dir := ""
	if n.cfg.DataDir != "" {
		dir = filepath.Join(n.cfg.DataDir, "sleepers")
	}
	n.sleepers, err = sleep.New(sleep.Config{Dir: dir, MaxBytes: n.cfg.Limits.MaxSleep, Log: n.log})
	return err
}

// aloneAuthority is what PIDs of a node begin with that no other can reach.
const aloneAuthority = "127.0.0.1:7701"

// inbound takes the messages of other nodes.
type inbound struct{ *Node }

// Handle implements [link.Handler].
func (n inbound) Handle(env *abi.Envelope, from cluster.NodeID, done func([]byte, error)) {
	n.api.Receive(env, from, done)
}

// HandleRelayed implements [link.RelayHandler]. Any node may send any message, so whom it is from matters to the log alone.
func (n inbound) HandleRelayed(env *abi.Envelope, origin, _ cluster.NodeID, done func([]byte, error)) {
	n.api.Receive(env, origin, done)
}

var _ link.RelayHandler = inbound{}

func (n *Node) startGateway() {
	if n.listen == nil {
		return
	}
	n.gateway = gateway.New(gateway.Config{Node: n, Operator: n, Metrics: n.metrics.Handler(), MaxMessage: n.cfg.Limits.MaxMessage,
		DefaultTimeout: n.cfg.Limits.Request, MaxConns: n.cfg.Limits.MaxConns, Log: n.log, Version: n.cfg.Version})
	n.work.Go(func() {
		if err := n.gateway.Serve(n.listen); err != nil {
			n.fail(fmt.Errorf("the gateway stopped: %w", err))
		}
	})
}

func (n *Node) prepareModules() (err error) {
	if n.cfg.ActorsDir == "" {
		return nil
	}
	cache := n.cfg.CacheDir
	if cache == "" && n.cfg.DataDir != "" {
		cache = filepath.Join(n.cfg.DataDir, "cache")
	}
	if n.engine, err = engine.New(engine.Config{CacheDir: cache, Memory: n.cfg.Limits.Memory, MaxMemory: n.cfg.maxMemory(),
		MaxMessage: n.cfg.Limits.MaxMessage, Slots: slot.Options{ReplicaBytes: replicaBytes(n.cfg.Limits.MaxBytes)}, Log: n.log}); err != nil {
		return err
	}
	n.catalog = module.New(module.Config[*engine.Module]{Dir: n.cfg.ActorsDir, Loader: loader{n.engine, n.cfg.loading, n.log}, Watch: n.cfg.Watch, Log: n.log,
		OnChange: n.rebuild})
	return nil
}

// fail ends the node by itself, err being why, or says that it has been shut down (nil). The first one counts.
func (n *Node) fail(err error) {
	n.stop.Do(func() {
		n.failedErr = err
		close(n.done)
	})
}

// Done is closed when the node has shut down, or when its start or a part of it failed for good: then Err tells, and
// Shutdown is still due.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node stopped by itself, once Done is closed; nil after a Shutdown.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.failedErr
	default:
		return nil
	}
}

// ShutdownTime is what a [Node.Shutdown] should be given: so long a node may take to leave in good order.
const ShutdownTime = moveTime + finishTime + partTime

// What a node that leaves keeps of its time for what comes after its moves; see [sparing].
const (
	finishTime = 10 * time.Second // for actors that stay to finish what waits for them
	partTime   = 10 * time.Second // to give up its session, and to tell the others
)

// sparing returns a context that ends before ctx does, so that something is left for later. That is not more than half of the time.
func sparing(ctx context.Context, later time.Duration) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	left := time.Until(end)
	return context.WithTimeout(ctx, max(left-later, left/2))
}

// Shutdown refuses new work, lets actors finish what waits for them, and ends everything; when ctx ends first, or comes near its deadline
// (see [ShutdownTime]), what is left is cut off: guests in the midst of their turns, native actors after it, and the error says so. A start
// under way is given up. It returns when nothing of the node runs any more, whatever state that was in. Further calls wait for the first, hurry
// it when their own ctx ends, and return the same.
func (n *Node) Shutdown(ctx context.Context) error {
	defer context.AfterFunc(ctx, n.hurryUp)()
	n.life.Lock()
	before := n.phase
	n.phase = ending
	n.leaving.Store(true)
	n.serving.Store(false)
	if before != ending {
		close(n.parting)
	}
	n.life.Unlock()
	if before == ending {
		<-n.ended
		return n.endErr
	}
	if before == started {
		n.abandon()
		<-n.settled
		n.endErr = n.shut(ctx)
	}
	n.fail(nil)
	n.hurryUp() // it has served
	close(n.ended)
	return n.endErr
}

// shut ends a node whose start is over.
func (n *Node) shut(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.hurry, cancel)()
	var errs []error
	n.drain.end()
	if n.quorum != nil && n.quorum.resident != nil {
		moving, cancel := sparing(ctx, finishTime+partTime)
		bounded, end := context.WithTimeout(moving, moveTime)
		if err := n.quorum.drain(bounded); err != nil {
			n.log.Warn("the node leaves with actors that nobody has taken over; what they keep ends with it", "err", err)
		}
		end()
		cancel()
	}
	if n.net != nil {
		// The actors end first, then the others are told to take over: until then they try again, and no actor lives twice. Those that
		// do not end soon are not waited for.
		defer time.AfterFunc(drainTime, n.net.withdraw).Stop()
	}
	if n.system != nil {
		finishing, cancel := sparing(ctx, partTime)
		errs = append(errs, n.system.Shutdown(finishing))
		cancel()
	}
	if n.quorum != nil {
		n.quorum.leave(ctx)
	}
	if n.net != nil {
		n.net.withdraw()
	}
	if n.gateway != nil {
		// Whoever was served has its answer; a connection that stays open is not waited for long.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second+n.cfg.Net.patience)
		if err := n.gateway.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, err)
		}
		cancel()
	}
	if n.quorum != nil { // while it can still reach the others
		errs = append(errs, n.quorum.close())
	}
	if n.net != nil {
		errs = append(errs, n.net.leave(ctx))
	}
	return errors.Join(append(errs, n.close())...)
}

// close ends at once what Start has made so far, in any state. After a graceful end there is nothing left to do.
func (n *Node) close() error {
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	n.drain.end()
	if n.system != nil {
		_ = n.system.Shutdown(hurry) // the error only says that it was in a hurry
	}
	if n.gateway != nil {
		_ = n.gateway.Shutdown(hurry)
	}
	if n.listen != nil {
		n.listen.Close() // the gateway has closed it already if it served
	}
	if n.budget != nil {
		n.budget.stop()
	}
	if n.silo != nil {
		n.silo.Close()
	}
	if n.quorum != nil {
		errs = append(errs, n.quorum.close())
	}
	if n.net != nil {
		errs = append(errs, n.net.close())
	}
	if n.catalog != nil {
		errs = append(errs, n.catalog.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	if n.sleepers != nil {
		errs = append(errs, n.sleepers.Close())
	}
	n.work.Wait()
	return errors.Join(errs...)
}

// URL returns where the gateway serves, "" without one and before Start.
func (n *Node) URL() string {
	if !n.up.Load() || n.listen == nil {
		return ""
	}
	return "http://" + n.listen.Addr().String()
}

// LinkAddr returns the host:port by which other nodes reach this one, "" without a link and before Start.
func (n *Node) LinkAddr() string {
	if !n.up.Load() || n.net == nil {
		return ""
	}
	return n.net.self.Authority
}

// GossipAddr returns the host:port that other nodes can join, "" without gossip and before Start.
func (n *Node) GossipAddr() string {
	if !n.up.Load() || n.net == nil {
		return ""
	}
	return n.net.watch.Addr()
}

// API returns the way to the cluster's actors, nil before Start.
func (n *Node) API() *cluster.API {
	if !n.up.Load() {
		return nil
	}
	return n.api
}

// Send delivers one message of a client's; see [gateway.Node]. A node that leaves takes none: there actors go on until they have
// finished, and clients would keep them from it. While a start is under way the message waits for it, until its time is over.
func (n *Node) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	if !n.serving.Load() {
		if err := n.awaitStart(ctx, env.Deadline); err != nil {
			return nil, err
		}
	}
	return n.api.Send(ctx, env)
}

// awaitStart waits for the end of a start that is under way; nil: the node serves.
func (n *Node) awaitStart(ctx context.Context, deadline time.Time) error {
	n.life.Lock()
	phase := n.phase
	n.life.Unlock()
	if phase == started && !n.leaving.Load() {
		left := time.NewTimer(time.Until(deadline))
		defer left.Stop()
		select {
		case <-n.settled:
		case <-n.hurry.Done():
		case <-left.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch {
	case n.serving.Load():
		return nil
	case n.leaving.Load():
		return errLeaving
	}
	return errNotServing
}

// Passivate passivates every actor that is idle now and waits until it is gone: volatile state ends with it.
func (n *Node) Passivate(ctx context.Context) error {
	if !n.up.Load() {
		return nil
	}
	return n.silo.PassivateIdle(ctx)
}

// Population is how many actors a node has.
type Population struct {
	Active int // activations
	Hot    int // of them, those in use, or lately
	Asleep int // hibernated
}

// Population counts the node's actors; it looks at every activation.
func (n *Node) Population() Population {
	if !n.up.Load() {
		return Population{}
	}
	st := n.silo.Stats()
	return Population{Active: int(st.Activations), Hot: n.silo.Hot(), Asleep: st.Sleepers}
}

// ForgetSleepers gives up what the hibernated actors of a kind have kept, and returns how many there were.
func (n *Node) ForgetSleepers(kind string) int {
	if !n.up.Load() {
		return 0
	}
	return n.sleepers.DropKind(kind, nil)
}
