package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/module"
	"github.com/wasilo/wasilo/host/silo"
	"github.com/wasilo/wasilo/host/telemetry"
)

// Node is one wasilo node. Use [New]; start it once, shut it down once. Its other methods may be called from any
// goroutine between the two.
type Node struct {
	cfg      Config
	log      *slog.Logger
	counters counters

	system  *cluster.System
	runtime *cluster.Runtime
	api     *cluster.API
	silo    *silo.Silo
	engine  *engine.Engine
	catalog *module.Catalog[*engine.Module] // nil: no directory
	metrics *telemetry.Telemetry
	gateway *gateway.Gateway
	listen  net.Listener

	kinds      atomic.Pointer[kinds]
	loaded     atomic.Bool
	rebuilding sync.Mutex
	leaving    atomic.Bool

	work sync.WaitGroup
	stop sync.Once
	done chan struct{}
	err  error // why the node stopped by itself; valid once done is closed
}

var _ gateway.Node = (*Node)(nil)

// New checks cfg and returns a node that does nothing yet.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	n := &Node{cfg: cfg, log: cfg.Log, done: make(chan struct{})}
	n.counters.byKind = make(map[string]*actor.Counters)
	n.kinds.Store(&kinds{})
	return n, nil
}

// Start listens, starts the parts of the node and loads the modules. When it fails nothing is left running. ctx bounds
// the start, not the node.
func (n *Node) Start(ctx context.Context) (err error) {
	if n.system != nil {
		return errors.New("the node was started before")
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
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
	if err := n.prepareModules(); err != nil {
		return err
	}
	if err := n.startCluster(ctx); err != nil {
		return err
	}
	n.startGateway()
	if n.catalog != nil {
		if err := n.catalog.Start(ctx); err != nil {
			return err
		}
	}
	n.loaded.Store(true)
	n.rebuild()
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

func (n *Node) startCluster(ctx context.Context) error {
	n.metrics = telemetry.New()
	n.silo = silo.New(silo.Config{
		Kind: func(name string) (*silo.Kind, error) {
			k, err := n.find(name)
			if err != nil {
				return nil, err
			}
			return &k.Kind, nil
		},
		MaxActors: n.cfg.Limits.MaxActors, MaxBytes: n.cfg.Limits.MaxBytes, Log: n.log,
	})
	authority := "127.0.0.1:7701" // a name for PIDs; without a gateway nothing listens
	if n.listen != nil {
		authority = n.listen.Addr().String()
	}
	self := cluster.Node{ID: cluster.NodeID(n.cfg.ID), Authority: authority}
	n.system = cluster.NewSystem(cluster.SystemConfig{Log: n.log})
	ext, err := cluster.Install(n.system, cluster.Config{
		Self: self, Cluster: n.cfg.Cluster, Topology: cluster.StaticTopology(self), Placement: n.silo, Metrics: n.metrics,
		DefaultTimeout: n.cfg.Limits.Request, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.runtime, n.api = ext.Runtime(), ext.API()
	n.silo.Open(n.api)
	n.metrics.Watch(n.snapshot)
	return n.system.Start(ctx)
}

func (n *Node) startGateway() {
	if n.listen == nil {
		return
	}
	n.gateway = gateway.New(gateway.Config{Node: n, Metrics: n.metrics.Handler(), MaxMessage: n.cfg.Limits.MaxMessage,
		DefaultTimeout: n.cfg.Limits.Request, Log: n.log, Version: n.cfg.Version})
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
	cache := ""
	if n.cfg.DataDir != "" {
		cache = filepath.Join(n.cfg.DataDir, "cache")
	}
	if n.engine, err = engine.New(engine.Config{CacheDir: cache, Memory: n.cfg.Limits.Memory, MaxMessage: n.cfg.Limits.MaxMessage,
		Log: n.log}); err != nil {
		return err
	}
	n.catalog = module.New(module.Config[*engine.Module]{Dir: n.cfg.ActorsDir, Loader: loader{n.engine, n.log}, Watch: n.cfg.Watch, Log: n.log,
		OnChange: n.rebuild})
	return nil
}

// fail ends the node by itself.
func (n *Node) fail(err error) {
	n.stop.Do(func() {
		n.err = err
		close(n.done)
	})
}

// Done is closed when the node has shut down, or a part of it failed for good: then Err tells, and Shutdown is still due.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node stopped by itself, once Done is closed; nil after a Shutdown.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Shutdown refuses new work, lets actors finish what waits for them, and ends everything; when ctx ends first, what is
// left is cut off after its turn. It returns when nothing of the node runs any more.
func (n *Node) Shutdown(ctx context.Context) error {
	n.leaving.Store(true)
	var errs []error
	if n.system != nil {
		errs = append(errs, n.system.Shutdown(ctx))
	}
	if n.gateway != nil {
		// Whoever was served has its answer; a connection that stays open is not waited for long.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		if err := n.gateway.Shutdown(grace); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, err)
		}
		cancel()
	}
	errs = append(errs, n.close())
	n.fail(nil)
	return errors.Join(errs...)
}

// close ends what New and Start have made so far, in any state.
func (n *Node) close() error {
	var errs []error
	if n.listen != nil {
		n.listen.Close() // the gateway has closed it already if it served
	}
	if n.system != nil {
		hurry, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.system.Shutdown(hurry) // after a graceful one there is nothing left to do
	}
	if n.silo != nil {
		n.silo.Close()
	}
	if n.catalog != nil {
		errs = append(errs, n.catalog.Close())
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	n.work.Wait()
	return errors.Join(errs...)
}

// URL returns where the gateway serves, "" without one.
func (n *Node) URL() string {
	if n.listen == nil {
		return ""
	}
	return "http://" + n.listen.Addr().String()
}

// API returns the way to the cluster's actors, nil before Start.
func (n *Node) API() *cluster.API { return n.api }

// Send delivers one message; see [gateway.Node].
func (n *Node) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	return n.api.Send(ctx, env)
}

// Passivate passivates every actor that is idle now and waits until it is gone: volatile state ends with it.
func (n *Node) Passivate(ctx context.Context) error { return n.silo.PassivateIdle(ctx) }
