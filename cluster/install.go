package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Extension is the cluster layer installed in a [System].
type Extension struct {
	runtime *Runtime
	context *Context
	api     *API
}

// Runtime returns the loop around the core: kinds, block list, leases, shutdown.
func (x *Extension) Runtime() *Runtime { return x.runtime }

// Context returns how requests of this node are made.
func (x *Extension) Context() *Context { return x.context }

// PartitionBridge returns the primary bridge to the silo.
func (x *Extension) PartitionBridge() PartitionBridge { return x.runtime.bridges.Primary() }

// PartitionBridges returns the registry of bridges.
func (x *Extension) PartitionBridges() *PartitionBridges { return &x.runtime.bridges }

// Metrics returns where figures go; it is never nil, and a sink that panics behind it harms nobody.
func (x *Extension) Metrics() Metrics {
	if x.runtime.metrics == nil {
		return NopMetrics{}
	}
	return x.runtime.metrics
}

// API returns what programs call actors with.
func (x *Extension) API() *API { return x.api }

// Events returns the stream of the cluster's events.
func (x *Extension) Events() *EventStream { return x.runtime.events }

// Done is closed when the shutdown is complete.
func (x *Extension) Done() <-chan struct{} { return x.runtime.done }

// Err returns nil until the shutdown is complete, then how it went: nil if every activation ended in good order.
func (x *Extension) Err() error {
	select {
	case <-x.runtime.done:
		return x.runtime.err
	default:
		return nil
	}
}

// Install brings the cluster layer into a system that has not started. It reads the status store first, then checks the
// configuration, builds the partition bridge, subscribes to the topology and registers the extension; nothing runs before
// [System.Start]. On an error nothing of the extension exists, and the reason is recorded in the status store; the error is a
// [*BootstrapError].
//
// It returns nil and no error if the extension is disabled, by the configuration or by the recorded status: the system is
// left as it was.
func Install(sys *System, cfg Config) (*Extension, error) {
	sys.life.Lock()
	defer sys.life.Unlock()
	switch { // the program's mistakes, which say nothing about the node
	case sys.stopped:
		return nil, &BootstrapError{Kind: InvalidConfig, Err: ErrSystemStopped}
	case sys.started:
		return nil, &BootstrapError{Kind: InvalidConfig, Err: ErrSystemStarted}
	case sys.extension.Load() != nil:
		return nil, &BootstrapError{Kind: InvalidConfig, Err: ErrInstalledTwice}
	}
	if cfg.Log == nil {
		cfg.Log = sys.log
	}
	store := cfg.Status
	if store == nil {
		store = &sys.status
	}
	sys.mu.Lock()
	sys.store = store
	sys.mu.Unlock()

	st, err := store.Load()
	if err != nil {
		return nil, &BootstrapError{Kind: StatusStoreFailed, Err: fmt.Errorf("load: %w", err)}
	}
	if cfg.Disabled {
		if st.Readiness == ReadinessUnknown || st.Readiness == ReadinessReady {
			if err := store.Save(Status{Readiness: ReadinessDisabled, Reason: disabledByConfig}); err != nil {
				return nil, &BootstrapError{Kind: StatusStoreFailed, Err: fmt.Errorf("save: %w", err)}
			}
		}
		return nil, nil
	}
	install, err := st.Admits()
	if err != nil {
		return nil, err
	}
	if !install {
		cfg.Log.Warn("the cluster extension is disabled by its recorded status; clear it to enable: `wasilo status clear`",
			"reason", st.Reason)
		return nil, nil
	}

	x, failure := build(sys, cfg)
	if failure != nil {
		return nil, recordFailure(store, cfg.Log, failure)
	}
	if err := store.Save(Status{Readiness: ReadinessReady}); err != nil {
		x.discard()
		return nil, &BootstrapError{Kind: StatusStoreFailed, Err: fmt.Errorf("save: %w", err)}
	}
	x.runtime.status = store
	sys.extension.Store(x)
	return x, nil
}

// build makes the extension without letting it run.
func build(sys *System, cfg Config) (*Extension, *BootstrapError) {
	if cfg.Cluster == "" {
		cfg.Cluster = sys.name
	}
	cfg, err := cfg.checked()
	if err != nil {
		return nil, &BootstrapError{Kind: InvalidConfig, Err: err}
	}
	r := newRuntime(cfg)
	bridge, err := cfg.Bridge(sys, cfg.Placement)
	if err == nil {
		err = r.bridges.Register(bridge)
	}
	if err != nil {
		return nil, &BootstrapError{Kind: BridgeFailed, Err: err}
	}
	handle, err := cfg.Topology.Subscribe(context.Background())
	if err == nil && handle == nil {
		err = errors.New("Subscribe returned no handle")
	}
	if err != nil {
		return nil, &BootstrapError{Kind: TopologyUnavailable, Err: err}
	}
	r.topology = handle
	c := &Context{r: r}
	return &Extension{runtime: r, context: c, api: &API{r: r, context: c}}, nil
}

// start lets the extension run; see [System.Start].
func (x *Extension) start(ctx context.Context) error {
	switch err := x.runtime.start(ctx); {
	case errors.Is(err, ErrSystemStopped): // somebody wanted it so
		return err
	case errors.Is(err, context.Canceled) && ctx.Err() != nil: // the same; it says nothing about the node
		return &BootstrapError{Kind: TopologyUnavailable, Err: err}
	case err != nil:
		return recordFailure(x.runtime.status, x.runtime.log, &BootstrapError{Kind: TopologyUnavailable, Err: err})
	}
	return nil
}

// discard drops an extension that was never registered.
func (x *Extension) discard() {
	if err := x.runtime.topology.Close(); err != nil {
		x.runtime.log.Warn("closing the topology stream failed", "err", err)
	}
}

// recordFailure keeps err as the node's status and returns it, joined with what went wrong in keeping it.
func recordFailure(store StatusStore, log *slog.Logger, err *BootstrapError) error {
	if saveErr := store.Save(Status{Readiness: ReadinessError, Kind: err.Kind, Reason: err.Error()}); saveErr != nil {
		log.Error("the failed start could not be recorded", "err", saveErr)
		return errors.Join(err, &BootstrapError{Kind: StatusStoreFailed, Err: fmt.Errorf("save: %w", saveErr)})
	}
	return err
}
