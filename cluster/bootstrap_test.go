package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestB1_1_InstalledWithOneLineBeforeStartCompletes(t *testing.T) {
	silo := &fakeSilo{}
	topology := &fakeTopology{}
	cfg := config(silo)
	cfg.Topology = topology
	sys := NewSystem(SystemConfig{})
	x, err := Install(sys, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if api, err := APIOf(sys); err != nil || api != x.API() || x.Runtime() == nil {
		t.Fatalf("before Start: %v, %v", api, err)
	}
	started := make(chan error, 1)
	go func() { started <- sys.Start(context.Background()) }()
	topology.handles[0].snapshots <- must(NewTopology(self))
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if _, err := x.API().Get(context.Background(), id("counter/a")); err != nil {
		t.Errorf("right after Start: %v", err)
	}
	if err := sys.Start(context.Background()); !errors.Is(err, ErrSystemStarted) {
		t.Errorf("a second start: %v", err)
	}
	if err := sys.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := sys.Start(context.Background()); !errors.Is(err, ErrSystemStopped) {
		t.Errorf("a start after the shutdown: %v", err)
	}
}

func TestB1_2_ConfigurationErrorsAreDescriptiveAndBlock(t *testing.T) {
	bad := map[string]struct {
		change func(*Config)
		kind   BootstrapErrorKind
		names  []string
	}{
		"no id":          {func(c *Config) { c.Self.ID = "" }, InvalidConfig, []string{"Self.ID"}},
		"odd id":         {func(c *Config) { c.Self.ID = "a b" }, InvalidConfig, []string{"Self.ID", "a b"}},
		"no authority":   {func(c *Config) { c.Self.Authority = "" }, InvalidConfig, []string{"Self.Authority"}},
		"bad IPv6":       {func(c *Config) { c.Self.Authority = "[:::]:1" }, InvalidConfig, []string{"Self.Authority"}},
		"odd cluster":    {func(c *Config) { c.Cluster = "my cluster" }, InvalidConfig, []string{"Cluster", "my cluster"}},
		"no topology":    {func(c *Config) { c.Topology = nil }, InvalidConfig, []string{"Topology", "StaticTopology"}},
		"no silo":        {func(c *Config) { c.Placement = nil }, InvalidConfig, []string{"Placement", "Client"}},
		"odd mode":       {func(c *Config) { c.Mode = 7 }, InvalidConfig, []string{"Mode 7"}},
		"bad kind":       {func(c *Config) { c.Kinds = []Kind{{"Counter"}} }, InvalidConfig, []string{"Kinds", "Counter"}},
		"bad retry":      {func(c *Config) { c.Retry.Attempts = -1 }, InvalidConfig, []string{"Retry"}},
		"bad resub":      {func(c *Config) { c.Resubscribe.Jitter = 2 }, InvalidConfig, []string{"Resubscribe"}},
		"bad time-out":   {func(c *Config) { c.DefaultTimeout = -1 }, InvalidConfig, []string{"DefaultTimeout"}},
		"two at once":    {func(c *Config) { c.Self.ID, c.Placement = "", nil }, InvalidConfig, []string{"Self.ID", "Placement"}},
		"doubled member": {func(c *Config) { c.Topology = StaticTopology(self, self) }, TopologyUnavailable, []string{"n1", "same node id"}},
		"stream refuses": {func(c *Config) {
			c.Topology = &fakeTopology{subscribeErr: func(int) error { return errors.New("no route to seed") }}
		}, TopologyUnavailable, []string{"no route to seed"}},
		"bridge fails": {func(c *Config) {
			c.Bridge = func(*System, PlacementActor) (PartitionBridge, error) { return nil, errors.New("bridge is out") }
		}, BridgeFailed, []string{"bridge is out"}},
		"no bridge": {func(c *Config) {
			c.Bridge = func(*System, PlacementActor) (PartitionBridge, error) { return nil, nil }
		}, BridgeFailed, []string{"name"}},
	}
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			cfg := config(&fakeSilo{})
			c.change(&cfg)
			sys := NewSystem(SystemConfig{})
			x, err := Install(sys, cfg)
			var be *BootstrapError
			if x != nil || !errors.As(err, &be) || be.Kind != c.kind {
				t.Fatalf("Install = %v, %v; want kind %q", x, err, c.kind)
			}
			for _, want := range c.names {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
			if want := abi.ErrNotReady; c.kind == InvalidConfig && abi.CodeOf(err) != abi.ErrInvalidArgument ||
				c.kind != InvalidConfig && abi.CodeOf(err) != want {
				t.Errorf("code %s", abi.CodeOf(err))
			}
			if _, err := APIOf(sys); !errors.Is(err, ErrNotInstalled) {
				t.Errorf("the extension is there all the same: %v", err)
			}
			st, err := sys.Status()
			if err != nil || st.Readiness != ReadinessError || !strings.Contains(st.Reason, c.names[0]) || st.Kind != c.kind {
				t.Errorf("status %+v, %v", st, err)
			}
			if err := sys.Start(t.Context()); err != nil {
				t.Errorf("the system without the extension does not start: %v", err)
			}
			if err := sys.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestB1_2_InstallComesOnceAndBeforeStart(t *testing.T) {
	n := start(t)
	var be *BootstrapError
	if _, err := Install(n.sys, config(n.silo)); !errors.As(err, &be) || !errors.Is(err, ErrSystemStarted) {
		t.Errorf("after Start: %v", err)
	}
	sys := NewSystem(SystemConfig{})
	must(Install(sys, config(n.silo)))
	if _, err := Install(sys, config(n.silo)); !errors.Is(err, ErrInstalledTwice) {
		t.Errorf("twice: %v", err)
	}
	if st, _ := sys.Status(); st.Readiness != ReadinessReady {
		t.Errorf("the program's mistake was recorded as the node's: %+v", st)
	}
	if err := sys.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Install(sys, config(n.silo)); !errors.Is(err, ErrSystemStopped) {
		t.Errorf("after Shutdown: %v", err)
	}
}

// A start that gets no snapshot ends everything it has begun and says why.
func TestB1_2_TopologyThatNeverComes(t *testing.T) {
	for name, end := range map[string]func(*fakeTopology, context.CancelFunc){
		"ended":    func(f *fakeTopology, _ context.CancelFunc) { f.handles[0].ends <- errors.New("gossip is broken") },
		"timeout":  func(*fakeTopology, context.CancelFunc) {},
		"given up": func(_ *fakeTopology, cancel context.CancelFunc) { cancel() },
		"no value": func(f *fakeTopology, _ context.CancelFunc) { f.handles[0].snapshots <- nil },
	} {
		t.Run(name, func(t *testing.T) {
			topology := &fakeTopology{}
			cfg := config(&fakeSilo{})
			cfg.Topology = topology
			sys := NewSystem(SystemConfig{})
			x := must(Install(sys, cfg))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "timeout" {
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			end(topology, cancel)
			want := ReadinessError
			if name == "given up" {
				want = ReadinessReady // that somebody changed his mind is no fault of the node
			}
			var be *BootstrapError
			if err := sys.Start(ctx); !errors.As(err, &be) || be.Kind != TopologyUnavailable {
				t.Fatalf("Start = %v", err)
			}
			if st, _ := sys.Status(); st.Readiness != want {
				t.Errorf("status %+v", st)
			}
			<-x.Done()
			if topology.handles[0].closed.Load() == 0 {
				t.Error("the subscription was left open")
			}
			if _, err := x.API().Get(t.Context(), id("counter/a")); !errors.Is(err, ErrShuttingDown) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestB1_3_HandleExposesItsParts(t *testing.T) {
	n := start(t, func(c *Config) { c.Cluster = "prod" })
	if n.Runtime() == nil || n.Context() == nil || n.PartitionBridge() == nil || n.Metrics() == nil || n.API() == nil || n.Events() == nil {
		t.Fatal("a part is missing")
	}
	c := n.Context()
	if c.Self() != self || c.Cluster() != "prod" || c.Mode() != Member || c.Topology().Len() != 1 ||
		c.DefaultTimeout() != abi.DefaultRequest || c.RetryPolicy().Attempts == 0 {
		t.Errorf("context: %+v %q %v %v %v %+v", c.Self(), c.Cluster(), c.Mode(), c.Topology(), c.DefaultTimeout(), c.RetryPolicy())
	}
	if n.PartitionBridge().Name() != "local" {
		t.Errorf("bridge %q", n.PartitionBridge().Name())
	}
	n.Metrics().SetLeases(41)
	if _, leases := n.metrics.gauges(); leases != 41 {
		t.Error("Metrics does not reach the sink")
	}
	quiet := start(t, func(c *Config) { c.Metrics = nil })
	quiet.Metrics().SetLeases(1) // a no-op, never nil
}

func TestB1_4_DisabledLeavesTheSystemUnchanged(t *testing.T) {
	store := &MemoryStatus{}
	cfg := Config{Disabled: true, Status: store} // nothing else is looked at
	sys := NewSystem(SystemConfig{})
	x, err := Install(sys, cfg)
	if x != nil || err != nil {
		t.Fatalf("Install = %v, %v", x, err)
	}
	if _, err := APIOf(sys); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("APIOf: %v", err)
	}
	if st, _ := sys.Status(); st.Readiness != ReadinessDisabled {
		t.Errorf("status %+v", st)
	}
	if err := errors.Join(sys.Start(t.Context()), sys.Shutdown(t.Context())); err != nil {
		t.Error(err)
	}
	// Enabled again by the same means, it installs.
	sys = NewSystem(SystemConfig{})
	cfg = config(&fakeSilo{})
	cfg.Status = store
	if x, err := Install(sys, cfg); x == nil || err != nil {
		t.Errorf("enabled again: %v, %v", x, err)
	}
	if err := sys.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// brokenStatus fails where told to.
type brokenStatus struct {
	MemoryStatus
	loadErr, saveErr error
}

func (s *brokenStatus) Load() (Status, error) {
	st, err := s.MemoryStatus.Load()
	return st, errors.Join(err, s.loadErr)
}

func (s *brokenStatus) Save(st Status) error {
	return errors.Join(s.saveErr, s.MemoryStatus.Save(st))
}

func TestB1_5_StatusDecidesBeforeTheInstall(t *testing.T) {
	install := func(store StatusStore, cfg Config) (*System, *Extension, error) {
		cfg.Status = store
		sys := NewSystem(SystemConfig{})
		x, err := Install(sys, cfg)
		t.Cleanup(func() {
			if err := sys.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return sys, x, err
	}
	var be *BootstrapError

	t.Run("ready is recorded and goes through", func(t *testing.T) {
		store := &MemoryStatus{}
		for range 2 {
			sys, x, err := install(store, config(&fakeSilo{}))
			if x == nil || err != nil {
				t.Fatal(x, err)
			}
			if st, err := sys.Status(); st.Readiness != ReadinessReady || err != nil {
				t.Fatalf("status %+v, %v", st, err)
			}
		}
	})
	t.Run("an error fails fast with its reason until cleared", func(t *testing.T) {
		store := &MemoryStatus{}
		if err := store.Save(Status{Readiness: ReadinessError, Reason: "the certificate has expired"}); err != nil {
			t.Fatal(err)
		}
		built := false
		cfg := config(&fakeSilo{})
		cfg.Bridge = func(s *System, p PlacementActor) (PartitionBridge, error) { built = true; return LocalBridge(s, p) }
		_, x, err := install(store, cfg)
		if x != nil || !errors.As(err, &be) || be.Kind != EarlierFailure || built {
			t.Fatalf("Install = %v, %v; built %v", x, err, built)
		}
		for _, want := range []string{"the certificate has expired", "status clear"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		if err := store.Save(Status{}); err != nil {
			t.Fatal(err)
		}
		if _, x, err := install(store, cfg); x == nil || err != nil {
			t.Errorf("cleared: %v, %v", x, err)
		}
	})
	t.Run("a mended configuration needs no clearing", func(t *testing.T) {
		store := &MemoryStatus{}
		bad := config(&fakeSilo{})
		bad.Self.ID = "not an id"
		if _, _, err := install(store, bad); err == nil {
			t.Fatal("accepted")
		}
		if _, x, err := install(store, config(&fakeSilo{})); x == nil || err != nil {
			t.Errorf("mended: %v, %v", x, err)
		}
	})
	t.Run("disabled on purpose decides early", func(t *testing.T) {
		store := &MemoryStatus{}
		if err := store.Save(Status{Readiness: ReadinessDisabled, Reason: "operator"}); err != nil {
			t.Fatal(err)
		}
		sys, x, err := install(store, config(&fakeSilo{}))
		if x != nil || err != nil {
			t.Fatalf("Install = %v, %v", x, err)
		}
		if _, err := APIOf(sys); !errors.Is(err, ErrNotInstalled) {
			t.Error(err)
		}
	})
	t.Run("a failing store blocks", func(t *testing.T) {
		for _, store := range []*brokenStatus{{loadErr: errors.New("disk is gone")}, {saveErr: errors.New("disk is gone")}} {
			for _, disabled := range []bool{false, true} {
				cfg := config(&fakeSilo{})
				topology := &fakeTopology{}
				cfg.Disabled, cfg.Topology = disabled, topology
				sys, x, err := install(store, cfg)
				if x != nil || !errors.As(err, &be) || be.Kind != StatusStoreFailed || !strings.Contains(err.Error(), "disk is gone") {
					t.Errorf("Install = %v, %v", x, err)
				}
				if _, err := APIOf(sys); !errors.Is(err, ErrNotInstalled) {
					t.Error(err)
				}
				for _, h := range topology.handles {
					if h.closed.Load() == 0 {
						t.Error("a subscription was left open")
					}
				}
			}
		}
	})
	t.Run("a failure that cannot be recorded tells both", func(t *testing.T) {
		cfg := config(&fakeSilo{})
		cfg.Topology = nil
		_, _, err := install(&brokenStatus{saveErr: errors.New("disk is gone")}, cfg)
		if err == nil || !strings.Contains(err.Error(), "Topology is missing") || !strings.Contains(err.Error(), "disk is gone") {
			t.Error(err)
		}
	})
	t.Run("an unknown readiness blocks", func(t *testing.T) {
		store := &MemoryStatus{}
		if err := store.Save(Status{Readiness: "maybe"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := install(store, config(&fakeSilo{})); !errors.As(err, &be) || be.Kind != StatusStoreFailed {
			t.Error(err)
		}
	})
}

// Without the install line nothing of the cluster exists.
func TestB1_RollBack(t *testing.T) {
	sys := NewSystem(SystemConfig{})
	if err := sys.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := sys.Status(); st != (Status{}) || err != nil {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := sys.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A shutdown does not wait for a start that waits for the topology: it ends it.
func TestB1_ShutdownGivesUpAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topology := &hanging{closed: make(chan struct{})}
		cfg := config(&fakeSilo{})
		cfg.Topology, cfg.Telemetry = topology, &brokenTelemetry{}
		sys := NewSystem(SystemConfig{Name: "prod"})
		x := must(Install(sys, cfg))
		if x.Context().Cluster() != "prod" {
			t.Errorf("cluster %q", x.Context().Cluster())
		}
		started := make(chan error)
		go func() { started <- sys.Start(t.Context()) }()
		synctest.Wait()
		if st, _ := sys.Status(); st.Readiness != ReadinessReady {
			t.Errorf("status during the start: %+v", st)
		}
		if err := sys.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-started; !errors.Is(err, ErrSystemStopped) {
			t.Errorf("Start = %v", err)
		}
		if st, _ := sys.Status(); st.Readiness != ReadinessReady {
			t.Errorf("a start that was given up on purpose left %+v", st)
		}
	})
}

// hanging is a stream that never says anything until it is closed.
type hanging struct{ closed chan struct{} }

func (h *hanging) Subscribe(context.Context) (TopologyStreamHandle, error) { return h, nil }
func (h *hanging) Next(context.Context) (*Topology, error) {
	<-h.closed
	return nil, ErrStreamEnded
}
func (h *hanging) Close() error {
	close(h.closed)
	return nil
}
