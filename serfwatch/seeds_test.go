package serfwatch

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/cluster"
)

func TestASeedThatComesLater(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n1 := w.make("n1", nil)
		p := n1.port
		w.mu.Lock()
		delete(w.ports, p.addr) // nothing listens yet
		w.mu.Unlock()
		began := time.Now()
		n2 := w.start("n2", n1)
		if took := time.Since(began); took > 0 {
			t.Errorf("a refused seed held the start up for %s", took)
		}
		n2.sees(0, "n2")
		time.Sleep(time.Hour)
		n2.says("WARN", "cannot join the cluster through a seed", "seed=10.0.0.1:7946", "connection refused", "nothing answers there yet")
		if c := strings.Count(n2.log.String(), "cannot join"); c > 12 {
			t.Errorf("%d lines in an hour:\n%s", c, n2.log)
		}
		w.mu.Lock()
		w.ports[p.addr] = p
		w.mu.Unlock()
		n1.begin()
		took := n2.sees(time.Minute, "n1", "n2")
		t.Logf("joined %s after the seed came", took)
		if took > lonely.Max {
			t.Errorf("that is later than the longest pause")
		}
		time.Sleep(time.Second)
		n2.says("INFO", "joined the cluster through a seed", "seed=10.0.0.1:7946")
	})
}

func TestASeedThatSaysNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n1 := w.start("n1")
		w.partition(n1) // packets vanish
		began := time.Now()
		n2 := w.start("n2", n1)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the start took %s", took)
		}
		n2.says("WARN", "cannot join", "nothing answers there yet")
		h, err := n2.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if first, err := h.Next(t.Context()); err != nil || first.Len() != 1 {
			t.Fatalf("%v, %v", first, err)
		}
		began = time.Now() // a dial under way ends too
		if err := n2.Close(); err != nil || time.Since(began) > 0 {
			t.Errorf("Close took %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		n3 := w.make("n3", func(c *Config) { c.Join = []string{n1.port.addr} })
		if err := n3.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start with a context that ends: %v", err)
		}
		if _, err := n3.Subscribe(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Subscribe after that: %v", err)
		}
	})
}

// A partition that lasts until both sides have forgotten each other heals through the seeds alone.
func TestALongPartitionHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(3, nil) // n2 and n3 have n1 for a seed
		w.partition(n[2])
		n[2].sees(time.Minute, "n3")
		n[0].sees(time.Minute, "n1", "n2")
		time.Sleep(2 * forget)
		if len(n[2].Peers()) != 1 || len(n[0].Peers()) != 2 {
			t.Fatalf("not forgotten: %+v, %+v", n[2].Peers(), n[0].Peers())
		}
		w.partition()
		var took time.Duration
		for _, node := range n {
			took = max(took, node.sees(time.Minute, "n1", "n2", "n3"))
		}
		t.Logf("healed after %s", took)
	})
}

// The same where the node that has the seed is not alone, so that the seed is sought at leisure.
func TestAPartitionOfPairsHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(4, func(c *Config) { c.Profile = LAN })
		w.partition(n[2], n[3])
		n[2].sees(5*time.Minute, "n3", "n4")
		time.Sleep(2 * forget)
		w.partition()
		t.Logf("healed after %s", n[0].sees(sought.Max+time.Minute, "n1", "n2", "n3", "n4"))
	})
}

func TestSeedsByName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		third := w.make("n3", func(c *Config) { c.Join = []string{"nodes.example", "nowhere.example:1", "10.0.0.3"} })
		var asked atomic.Int32
		third.resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if ip, err := netip.ParseAddr(host); err == nil {
				return []netip.Addr{ip}, nil
			}
			if host != "nodes.example" {
				return nil, errors.New("no such host")
			}
			asked.Add(1)
			return []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.3"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.2")}, nil
		}
		third.begin()
		third.sees(0, "n1", "n2", "n3") // its first snapshot: that one seed is this node itself, and one unknown, does not matter
		for _, node := range append(n, third) {
			node.sees(time.Minute, "n1", "n2", "n3")
		}
		third.says("WARN", "cannot join", "seed=nowhere.example:1", "no such host")
		time.Sleep(10 * time.Minute)
		if c := asked.Load(); c > 40 {
			t.Errorf("the name was asked for %d times in ten minutes", c)
		}
		if third.log.line("cannot join", "seed=10.0.0.3:7946") != "" {
			t.Error("it tried to join itself")
		}
	})
}

func TestPauses(t *testing.T) {
	for _, c := range []struct {
		tries        int
		alone, named bool
		low, high    time.Duration
	}{
		{0, true, false, 2 * time.Second, 2 * time.Second},
		{0, false, false, 2 * time.Second, 2 * time.Second},
		{0, true, true, 30 * time.Second, 30 * time.Second},
		{1, true, true, 175 * time.Millisecond, 250 * time.Millisecond},
		{2, true, false, 350 * time.Millisecond, 500 * time.Millisecond},
		{1000, true, false, 3500 * time.Millisecond, 5 * time.Second},
		{1, false, false, 700 * time.Millisecond, time.Second},
		{1000, false, true, 21 * time.Second, 30 * time.Second},
	} {
		low, high := pause(c.tries, c.alone, c.named, 0.999999), pause(c.tries, c.alone, c.named, 0)
		if low < c.low || high != c.high || low > high {
			t.Errorf("%+v: %s to %s", c, low, high)
		}
	}
}

func TestB2_4_TheHandleTellsTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n1 := w.make("n1", nil)
		early, err := n1.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := early.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next before Start: %v", err)
		}
		n1.begin()
		first, err := early.Next(t.Context())
		if err != nil || first.Len() != 1 {
			t.Fatal(first, err)
		}
		n2 := w.start("n2", n1)
		n3 := w.start("n3", n1)
		n1.sees(time.Minute, "n1", "n2", "n3")
		if newest, err := early.Next(t.Context()); err != nil || newest.Len() != 3 { // n1, n2 alone was left out
			t.Errorf("%v, %v", newest, err)
		}
		late, err := n1.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if newest, err := late.Next(t.Context()); err != nil || newest.Len() != 3 {
			t.Errorf("a second subscription begins with %v, %v", newest, err)
		}
		// Nothing is said twice, however often the list is read.
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if again, err := late.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %v", again, err)
		}
		// Closing one subscription ends it alone.
		go func() { _ = late.Close() }()
		if _, err := late.Next(t.Context()); err != cluster.ErrStreamEnded {
			t.Errorf("Next of a closed subscription: %v", err)
		}
		if late.Close() != nil {
			t.Error("Close again")
		}
		// So does closing the Watch, for all.
		ended := make(chan error)
		go func() {
			_, err := early.Next(t.Context())
			ended <- err
		}()
		synctest.Wait()
		_ = n1.Close()
		if err := <-ended; err != ErrClosed || !errors.Is(err, cluster.ErrStreamEnded) {
			t.Errorf("Next of a closed Watch: %v", err)
		}
		if _, err := n1.Subscribe(t.Context()); err != ErrClosed {
			t.Errorf("Subscribe to a closed Watch: %v", err)
		}
		select {
		case <-n1.Failed():
			t.Error("closing is no failure")
		default:
		}
		_, _ = n2, n3
	})
}

func TestB2_4_SerfThatStopsByItselfIsFatal(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		h, err := n[0].Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n[0].serf.Shutdown(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-n[0].Failed():
		case <-time.After(time.Minute):
			t.Fatal("nobody is told")
		}
		if _, err := h.Next(t.Context()); err != ErrFailed {
			t.Errorf("Next: %v", err)
		}
		if _, err := n[0].Subscribe(t.Context()); err != ErrFailed || n[0].Err() != ErrFailed {
			t.Errorf("Subscribe: %v", err)
		}
		n[0].says("ERROR", "serf has shut down by itself")
		n[1].sees(time.Minute, "n2")
		if err := n[0].Leave(t.Context()); err == nil || n[0].Err() != ErrFailed {
			t.Errorf("Leave: %v", err)
		}
	})
}

// cuttable is a stream whose subscriptions a test can end.
type cuttable struct {
	cluster.TopologyStream
	handles chan cluster.TopologyStreamHandle
}

func (c cuttable) Subscribe(ctx context.Context) (cluster.TopologyStreamHandle, error) {
	h, err := c.TopologyStream.Subscribe(ctx)
	if err == nil {
		c.handles <- h
	}
	return h, err
}

func TestB2_4_ARuntimeHasTheNewestAfterResubscribing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		stream := cuttable{n[0].Watch, make(chan cluster.TopologyStreamHandle, 10)}
		log := &logbook{}
		sys := cluster.NewSystem(cluster.SystemConfig{Log: log.logger()})
		x, err := cluster.Install(sys, cluster.Config{Self: n[0].Node(), Mode: cluster.Client, Topology: stream,
			Resubscribe: cluster.RetryPolicy{Initial: time.Minute, Max: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		if err := sys.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		members := func() int { return x.Runtime().View().Topology().Len() }
		_ = (<-stream.handles).Close()
		_ = n[1].Close()
		n[0].sees(time.Minute, "n1")
		synctest.Wait()
		if members() != 2 || !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%d members without a subscription; the last snapshot had two\n%s", members(), log)
		}
		<-stream.handles // subscribed to again
		synctest.Wait()
		if members() != 1 {
			t.Errorf("%d members after resubscribing; the newest snapshot has one", members())
		}
		if err := sys.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
