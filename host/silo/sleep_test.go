package silo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

// store keeps sleepers in a map.
type store struct {
	mu      sync.Mutex
	all     map[abi.Identity]sleep.Sleeper
	full    error
	damaged map[abi.Identity]bool
	putting func(z *sleep.Sleeper) // before each Put
	broken  func(z *sleep.Sleeper) error
	walking func(p uint16) error // before each DropKinds; guarded by mu
}

func newStore() *store {
	return &store{all: map[abi.Identity]sleep.Sleeper{}, damaged: map[abi.Identity]bool{}}
}

func (s *store) Put(p uint16, z *sleep.Sleeper) error {
	if s.putting != nil {
		s.putting(z)
	}
	s.mu.Lock()
	full := s.full
	s.mu.Unlock()
	if full != nil {
		return full
	}
	return s.PutBack(p, z)
}

func (s *store) PutBack(p uint16, z *sleep.Sleeper) error {
	if p != cluster.PartitionOf(z.Identity) {
		return errors.New("the wrong partition")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		if err := s.broken(z); err != nil {
			return err
		}
	}
	if old, ok := s.all[z.Identity]; ok && z.Epoch.Less(old.Epoch) {
		return sleep.ErrNewer
	}
	kept := *z
	kept.State, kept.Slept = slices.Clone(z.State), z.Slept.Truncate(time.Second)
	s.all[z.Identity] = kept
	return nil
}

func (s *store) Take(p uint16, id abi.Identity, last abi.Epoch) (sleep.Sleeper, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, ok := s.all[id]
	if ok && last.Less(z.Epoch) {
		return sleep.Sleeper{}, false, sleep.ErrNewer
	}
	delete(s.all, id)
	if ok && s.damaged[id] {
		delete(s.damaged, id)
		return sleep.Sleeper{}, false, errors.New("the checksum is wrong")
	}
	return z, ok, nil
}

func (s *store) Get(p uint16, id abi.Identity) (sleep.Sleeper, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z, ok := s.all[id]
	if ok && s.damaged[id] {
		return sleep.Sleeper{}, false, &sleep.DamagedError{Identity: id, Partition: p, Where: "memory", Err: errors.New("the checksum is wrong")}
	}
	return z, ok, nil
}

func (s *store) Partition(p uint16) (all []sleep.Info) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, z := range s.all {
		if cluster.PartitionOf(id) == p {
			all = append(all, infoOf(&z))
		}
	}
	return all
}

// Stage is for tests with a store of package sleep.
func (s *store) Stage() *sleep.Stage { panic("this store stages nothing") }

func (s *store) Has(p uint16, id abi.Identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.all[id]
	return ok
}

func (s *store) DropKind(kind string, which func(sleep.Info) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, z := range s.all {
		if id.Kind() == kind && (which == nil || which(infoOf(&z))) {
			delete(s.all, id)
			n++
		}
	}
	return n
}

func (s *store) onWalk(f func(p uint16) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.walking = f
}

func (s *store) DropKinds(p uint16, kinds map[string]func(sleep.Info) bool) (n int, err error) {
	s.mu.Lock()
	walking := s.walking
	s.mu.Unlock()
	if walking != nil {
		if err := walking(p); err != nil {
			return 0, err
		}
	}
	for kind, which := range kinds {
		n += s.DropKind(kind, func(i sleep.Info) bool { return cluster.PartitionOf(i.Identity) == p && which(i) })
	}
	return n, nil
}

func infoOf(z *sleep.Sleeper) sleep.Info {
	return sleep.Info{Identity: z.Identity, Epoch: z.Epoch, Uses: z.Uses, Slept: z.Slept, Size: len(z.State)}
}

func (s *store) List(kind, after string, limit int) (page []sleep.Info, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, z := range s.all {
		if (kind == "" || id.Kind() == kind) && id.Key() > after {
			page = append(page, infoOf(&z))
		}
	}
	slices.SortFunc(page, func(a, b sleep.Info) int { return strings.Compare(a.Identity.Key(), b.Identity.Key()) })
	if more = len(page) > limit; more {
		page = page[:limit]
	}
	return page, more
}

func (s *store) Stats() sleep.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sleep.Stats{Sleepers: len(s.all), Bytes: int64(100 * len(s.all))}
}

func (s *store) len() int { return s.Stats().Sleepers }

// dormouse is an instance that counts its turns, and can be captured.
type dormouse struct {
	*instance
	rested int
	weight int64
}

func (n *node) dormouse(i *instance, state []byte) (actor.Instance, error) {
	if state != nil {
		if n.wake != nil {
			if err := n.wake(state); err != nil {
				n.live[i.h.Identity().ID()]--
				return nil, err
			}
		}
		i.turns = int(binary.BigEndian.Uint64(state))
	}
	return &dormouse{instance: i, weight: 1000}, nil
}

func (d *dormouse) Rest() {
	d.rested++
	time.Sleep(d.n.resting)
}
func (d *dormouse) Weight() int64 { return d.weight }
func (d *dormouse) Capture(dst []byte) ([]byte, error) {
	d.n.mu.Lock()
	capture := d.n.capture
	d.n.mu.Unlock()
	if capture != nil {
		if err := capture(d); err != nil {
			return dst, err
		}
	}
	return binary.BigEndian.AppendUint64(dst, uint64(d.turns)), nil
}

// Turn answers how many turns there were.
func (d *dormouse) Turn(ev *abi.Event, deadline time.Time, out *abi.Output) error {
	if err := d.instance.Turn(ev, deadline, out); err != nil || out.Kind != abi.OutReply || ev.Method == "raw" {
		return err
	}
	out.Payload = fmt.Append(nil, d.turns)
	if ev.Self != nil {
		out.Payload = fmt.Append(nil, d.turns, " ", ev.Self.Reason)
	}
	return nil
}

// sleepyNode is a node whose actors sleep after 30 s.
func sleepyNode(t *testing.T, change func(*Config, *Kind)) *node {
	return newNode(t, func(c *Config, k *Kind) {
		c.Sleepers = newStore()
		k.Desc.State = abi.State{Keep: abi.KeepImage, Level: abi.LevelHibernating}
		k.Hibernate = 30 * time.Second
		if change != nil {
			change(c, k)
		}
	})
}

func (n *node) want(name, reply string) {
	n.t.Helper()
	if got := n.must(name, "m", ""); got != reply {
		n.t.Errorf("%s answers %q, want %q", name, got, reply)
	}
}

func TestHotWarmHibernatedAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		woken := 0
		n := sleepyNode(t, func(c *Config, k *Kind) { c.Woken = func(string, time.Duration) { woken++ } })
		n.want("a", "1 call")
		time.Sleep(4 * time.Second)
		st := func() actor.Status { return n.silo.shard(id("a")).entries[id("a")].act.Status() }
		synctest.Wait()
		if st().Warm {
			t.Error("warm after 4 s")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !st().Warm {
			t.Error("not warm after 7 s")
		}
		n.want("a", "2")
		if st().Warm {
			t.Error("warm after a turn")
		}
		time.Sleep(28 * time.Second)
		if n.store.len() != 0 {
			t.Error("asleep too early")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if s := n.silo.Stats(); s.Activations != 0 || s.Sleepers != 1 || n.ext.Runtime().Leases() != 0 {
			t.Errorf("%+v, %d leases", s, n.ext.Runtime().Leases())
		}
		time.Sleep(24 * time.Hour) // what hibernates outlives its kind's idle time
		n.want("a", "3 wake")
		if n.store.len() != 0 || woken != 1 || len(n.passivated()) != 0 {
			t.Errorf("%d asleep, %d wakes, %q", n.store.len(), woken, n.passivated())
		}
		if c := n.kind.Counters; c.Hibernations.Load() != 1 || c.Wakes.Load() != 1 {
			t.Errorf("%d, %d", c.Hibernations.Load(), c.Wakes.Load())
		}
	})
}

// Never is only until passivation: that hibernates what is to stay.
func TestWithoutATimeOfItsOwnItSleepsAtPassivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, func(c *Config, k *Kind) { k.Hibernate = 0 })
		n.want("a", "1 call")
		time.Sleep(55 * time.Second)
		if n.store.len() != 0 {
			t.Error("asleep too early")
		}
		time.Sleep(10 * time.Second)
		n.want("a", "2 wake")
	})
}

// Whoever sends an activation off may have looked at it when it was busy, or when its state could not be kept just then.
func TestAStateThatIsToStayIsKeptWhateverWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		n.want("a", "1 call")
		e := n.silo.shard(id("a")).entries[id("a")]
		if !n.silo.send(e, "evicted", false, time.Time{}) {
			t.Fatal("it stays")
		}
		<-e.gone
		n.want("a", "2 wake")
	})
}

// An actor that is just going to rest is idle to whoever asks for all that are.
func TestWhoGoesToRestIsPassivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		n.resting = time.Second
		n.want("a", "1 call")
		if e := n.silo.shard(id("a")).entries[id("a")]; !e.act.Rest() || !e.act.Status().Resting {
			t.Fatal("it does not rest")
		}
		if err := n.silo.PassivateIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := n.silo.Stats(); st.Activations != 0 || st.Sleepers != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// An actor that somebody else is just sending off is waited for, whether it goes or stays after all.
func TestWhoIsJustSentOffIsPassivated(t *testing.T) {
	for _, goes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := sleepyNode(t, nil)
			n.want("a", "1 call")
			e := n.silo.shard(id("a")).entries[id("a")]
			e.leaving.Store(1) // as in the midst of send
			n.silo.leaving.Add(1)
			n.silo.leavingBytes.Add(1)
			over := make(chan error, 1)
			go func() { over <- n.silo.PassivateIdle(t.Context()) }()
			time.Sleep(10 * restTime)
			if len(over) > 0 {
				t.Error("it is not waited for")
			}
			if goes {
				e.act.Leave("evicted", true, time.Time{})
			} else {
				e.Stays() // which is no news of the attempt that follows
				n.silo.left(e)
			}
			if err := <-over; err != nil {
				t.Error(err)
			}
			if st := n.silo.Stats(); st.Activations != 0 || st.Sleepers != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// Whoever waits for an actor to end hears that it goes on, also if it began to wait after its state could not be kept, and before the actor
// goes on.
func TestWhoWaitsForOneThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		n.want("a", "1 call")
		e := n.silo.shard(id("a")).entries[id("a")]
		if e.Keep(func([]byte) ([]byte, error) { return nil, errors.New("no room") }) == nil {
			t.Fatal("it was kept")
		}
		failed := e.failing()
		e.Stays()
		<-failed
	})
}

// An actor that is used in the moment in which it is found to have been idle for too long goes on.
func TestWhoIsUsedAtTheLastMomentStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n *node
		var look atomic.Bool
		n = sleepyNode(t, func(c *Config, k *Kind) {
			k.Desc.State.Level = abi.LevelVolatile
			kind := c.Kind
			c.Kind = func(name string) (*Kind, error) {
				if look.CompareAndSwap(true, false) { // by the sweep, which has seen how long it was idle
					n.want("a", "2")
				}
				return kind(name)
			}
		})
		n.want("a", "1 call")
		time.Sleep(59 * time.Second)
		look.Store(true)
		time.Sleep(10 * time.Second)
		if look.Load() {
			t.Fatal("nobody looked")
		}
		n.want("a", "3")
	})
}

// However actors come and go under their callers, no turn is forgotten.
func TestNothingIsForgotten(t *testing.T) {
	for _, real := range []bool{false, true} {
		n := sleepyNode(t, func(c *Config, k *Kind) {
			k.Quick, c.MaxActors = real, 3
			if real {
				z, err := sleep.New(sleep.Config{Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { z.Close() })
				c.Sleepers = z
			}
		})
		const callers, each, actors = 4, 100, 5
		over := make(chan struct{})
		var operator, wg sync.WaitGroup
		operator.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					n.silo.PassivateIdle(t.Context())
				}
			}
		})
		for c := range callers {
			wg.Go(func() {
				for i := range each {
					for { // a full silo may have nobody who has been idle for long enough
						_, err := n.call(numbered("a", (c+i)%actors), "m", "")
						if err == nil {
							break
						} else if abi.CodeOf(err) != abi.ErrOverloaded {
							t.Fatal(err)
						}
					}
				}
			})
		}
		wg.Wait()
		close(over)
		operator.Wait()
		if err := n.silo.PassivateIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range actors {
			if err := n.silo.PassivateIdle(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.want(numbered("a", i), fmt.Sprint(callers*each/actors+1, " wake"))
		}
		t.Logf("%d wakes", n.kind.Counters.Wakes.Load())
	}
}

// An actor whose state cannot be kept stays as it is, is left alone for a while, and tried again.
func TestAFailedHibernationIsTriedAgainLater(t *testing.T) {
	for name, fail := range map[string]func(n *node, err error){
		"capture": func(n *node, err error) { n.mu.Lock(); n.capture = func(*dormouse) error { return err }; n.mu.Unlock() },
		"store":   func(n *node, err error) { n.store.mu.Lock(); n.store.full = err; n.store.mu.Unlock() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := sleepyNode(t, func(c *Config, k *Kind) { c.MaxActors = 1 })
				fail(n, errors.New("not now"))
				n.want("a", "1 call")
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if c := n.kind.Counters.CaptureFailures.Load(); c < 3 || c > 12 {
					t.Errorf("%d tries in ten minutes", c)
				}
				if _, err := n.call("b", "m", ""); abi.CodeOf(err) != abi.ErrOverloaded {
					t.Errorf("it had to go: %v", err)
				}
				n.silo.PassivateIdle(t.Context())
				n.want("a", "2")
				fail(n, nil)
				time.Sleep(15 * time.Minute)
				synctest.Wait()
				if n.store.len() != 1 {
					t.Error("it is still awake")
				}
				n.want("a", "3 wake")
			})
		})
	}
}

// What can never be captured is passivated as if it had declared nothing.
func TestWhatCannotBeCapturedEverIsPassivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		n.capture = func(*dormouse) error { return abi.NewError(abi.ErrUnsupported, "its tables are mutable") }
		n.want("a", "1 call")
		time.Sleep(70 * time.Second)
		synctest.Wait()
		if got := n.passivated(); !slices.Equal(got, []string{"a idle"}) || n.kind.Counters.CaptureFailures.Load() != 1 {
			t.Errorf("%q, %d failures", got, n.kind.Counters.CaptureFailures.Load())
		}
		n.want("a", "1 call")
	})
}

// A state that is too large for this node stays where it is, and its kind is none the worse for it.
func TestAStateTooLargeForTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		n.want("a", "1 call")
		n.silo.PassivateIdle(t.Context())
		n.wake = func([]byte) error { return abi.NewError(abi.ErrLimitExceeded, "the state has 2 MiB of memory") }
		for range 10 {
			if _, err := n.call("a", "m", ""); err == nil || !strings.Contains(err.Error(), "the state has 2 MiB") {
				t.Fatalf("%v", err)
			}
		}
		if n.store.len() != 1 || n.silo.startsOf("k").ill.Load() {
			t.Errorf("%d states, %+v", n.store.len(), n.silo.Backoff(n.kind))
		}
		n.wake = nil
		n.want("a", "2 wake")
	})
}

// What is of no use is given up once a caller knows, and not before.
func TestALostStateIsTold(t *testing.T) {
	tests := map[string]struct {
		spoil func(n *node)
		words string
	}{
		"damaged in the store": {func(n *node) { n.store.damaged[id("a")] = true }, "checksum"},
		"not the engine's": {func(n *node) {
			n.wake = func([]byte) error { return abi.NewError(abi.ErrStateUnusable, "it is of another template") }
		}, "template"},
		"cut": {func(n *node) {
			z := n.store.all[id("a")]
			z.State = z.State[:3]
			n.store.all[id("a")] = z
		}, "damaged"},
	}
	for name, tt := range tests {
		for _, quick := range []bool{false, true} {
			t.Run(fmt.Sprint(name, quick), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := sleepyNode(t, func(c *Config, k *Kind) { k.Quick = quick })
					n.want("a", "1 call")
					n.silo.PassivateIdle(t.Context())
					tt.spoil(n)
					n.store.full = errors.New("no room") // not even for a note
					env := n.env("a", "m", "")
					env.Flags = abi.OneWay
					for range 2 { // nobody hears of these
						if err := n.api.Post(env, nil); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
						if n.store.len() != 1 {
							t.Fatal("it is gone, and nobody was told")
						}
					}
					_, err := n.call("a", "m", "")
					if abi.CodeOf(err) != abi.ErrStateUnusable || !strings.Contains(err.Error(), tt.words) {
						t.Errorf("%v", err)
					}
					synctest.Wait()
					n.want("a", "1 call")
					if d := n.silo.Stats().Dropped["unusable"]; d != 1 {
						t.Errorf("%d dropped", d)
					}
				})
			})
		}
	}
}

// A wake that fails for other reasons costs nothing.
func TestAFailedWakeKeepsTheState(t *testing.T) {
	n := sleepyNode(t, nil)
	n.want("a", "1 call")
	n.silo.PassivateIdle(t.Context())
	for code, told := range map[abi.Code]abi.Code{abi.ErrOverloaded: abi.ErrOverloaded, abi.ErrLimitExceeded: abi.ErrActivationFailed} {
		n.wake = func([]byte) error { return abi.NewError(code, "no room") }
		if _, err := n.call("a", "m", ""); abi.CodeOf(err) != told {
			t.Errorf("%v: %v", code, err)
		}
	}
	n.wake = nil
	n.want("a", "2 wake")
}

// So it is where others have taken its place meanwhile: a store that is full takes it back.
func TestAFailedWakeKeepsTheStateThoughTheStoreIsFull(t *testing.T) {
	z, err := sleep.New(sleep.Config{MaxBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.Close() })
	n := sleepyNode(t, func(c *Config, k *Kind) { c.Sleepers = z })
	n.want("a", "1 call")
	n.silo.PassivateIdle(t.Context())
	for i, full := 0, false; !full; i++ {
		other := sleep.Sleeper{Identity: id(numbered("b", i)), Slept: time.Now(), State: make([]byte, 17)} // as large as what a left
		full = errors.Is(z.Put(cluster.PartitionOf(id("a")), &other), sleep.ErrFull)
	}
	n.wake = func([]byte) error { return abi.NewError(abi.ErrOverloaded, "no slot") }
	for range 3 {
		if _, err := n.call("a", "m", ""); abi.CodeOf(err) != abi.ErrOverloaded || !n.silo.Keeps(id("a")) {
			t.Fatalf("%v; it sleeps: %v", err, n.silo.Keeps(id("a")))
		}
	}
	n.wake = nil
	n.want("a", "2 wake")
}

// A state that cannot be brought back at all is told like any that is lost.
func TestAStateThatCannotBeBroughtBackIsTold(t *testing.T) {
	n := sleepyNode(t, nil)
	n.want("a", "1 call")
	n.silo.PassivateIdle(t.Context())
	n.store.broken = func(z *sleep.Sleeper) error {
		if here(z.State) {
			return errors.New("no memory at all")
		}
		return nil
	}
	n.wake = func([]byte) error { return abi.NewError(abi.ErrOverloaded, "no slot") }
	if _, err := n.call("a", "m", ""); abi.CodeOf(err) != abi.ErrOverloaded {
		t.Error(err)
	}
	n.wake, n.store.broken = nil, nil
	if _, err := n.call("a", "m", ""); abi.CodeOf(err) != abi.ErrStateUnusable || !strings.Contains(err.Error(), "no memory at all") {
		t.Error(err)
	}
	n.want("a", "1 call")
	if d := n.silo.Stats().Dropped["unusable"]; d != 1 {
		t.Errorf("%d dropped", d)
	}
}

// Whoever loses an actor, if only for a moment, begins anew: others may have gone on with it.
func TestWhatWasLostDoesNotWake(t *testing.T) {
	other := cluster.Node{ID: "two", Authority: "127.0.0.1:7702"}
	self := cluster.Node{ID: "one", Authority: "127.0.0.1:7701"}
	for name, lose := range map[string]func(t *testing.T, n *node) (lost func(abi.Identity) bool){
		"stood still": func(t *testing.T, n *node) func(abi.Identity) bool {
			n.ext.Runtime().HandleLapse()
			return func(abi.Identity) bool { return true }
		},
		"another node came and went": func(t *testing.T, n *node) func(abi.Identity) bool {
			both, err := cluster.NewTopology(self, other)
			if err != nil {
				t.Fatal(err)
			}
			alone, _ := cluster.NewTopology(self)
			n.ext.Runtime().HandleTopologyChanged(both)
			if err := n.ext.Runtime().SetPeerKinds("two", []cluster.Kind{{Name: "k"}}); err != nil {
				t.Fatal(err)
			}
			view := n.ext.Runtime().View()
			n.ext.Runtime().HandleTopologyChanged(alone)
			return func(id abi.Identity) bool { owner, _ := view.OwnerOf(id); return owner.ID == "two" }
		},
		"the kind was gone": func(t *testing.T, n *node) func(abi.Identity) bool {
			n.ext.Runtime().SetKinds(nil)
			n.ext.Runtime().SetKinds([]cluster.Kind{{Name: "k"}})
			return func(abi.Identity) bool { return true }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := sleepyNode(t, nil)
				for i := range 20 {
					n.want(numbered("a", i), "1 call")
				}
				n.silo.PassivateIdle(t.Context())
				before := n.store.len()
				lost := lose(t, n)
				synctest.Wait()
				left, dropped := n.store.len(), n.silo.Stats().Dropped["lost"]
				for i := range 20 {
					want := "2 wake"
					if lost(id(numbered("a", i))) {
						want = "1 call"
						left++
					}
					n.want(numbered("a", i), want)
				}
				if before != 20 || left != 20 || dropped == 0 {
					t.Errorf("%d slept, %d slept on or were lost, %d dropped", before, left, dropped)
				}
			})
		})
	}
}

// A state that comes into the store after its actor was lost, and before it is this node's again, counts for nothing, and does not stay
// there, though the drop has been there already. Nor does the actor begin from nothing where it is not at home.
func TestALateStateCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		n.want("a", "1 call")
		lost := false
		n.store.putting = func(z *sleep.Sleeper) {
			if !lost {
				lost = true
				n.silo.states.lose(cluster.Loss{Epoch: z.Epoch})
			}
		}
		n.silo.PassivateIdle(t.Context())
		synctest.Wait()
		if n.store.len() != 0 || n.silo.Stats().Dropped["lost"] != 1 {
			t.Fatalf("%d asleep, %v", n.store.len(), n.silo.Stats().Dropped)
		}
		n.want("a", "1 call")

		e := n.silo.shard(id("a")).entries[id("a")]
		n.silo.states.lose(cluster.Loss{Epoch: e.lease.Epoch})
		if _, err := e.Take(); abi.CodeOf(err) != abi.ErrOwnershipChanged {
			t.Errorf("%v", err)
		}
	})
}

// Another version of a module cannot read what the one before left. That is said, once for all, and what is active goes on.
func TestAnotherVersionGivesUpWhatSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		for _, a := range []string{"asleep", "missed", "active"} {
			n.want(a, "1 call")
		}
		time.Sleep(5 * time.Second)
		n.want("active", "2")
		time.Sleep(27 * time.Second) // the others sleep
		synctest.Wait()
		missed, _, _ := n.store.Take(0, id("missed"), abi.Epoch{Index: 1 << 60})
		if missed.State == nil || n.store.len() != 1 {
			t.Fatalf("%d asleep", n.store.len())
		}
		next := *n.kind
		next.Version = "v2"
		n.mu.Lock()
		n.kind = &next
		n.mu.Unlock()
		n.silo.Replaced("k", time.Now())
		synctest.Wait()
		if n.store.len() != 0 || n.silo.Stats().Dropped["replaced"] != 1 {
			t.Errorf("%d asleep, %v", n.store.len(), n.silo.Stats().Dropped)
		}
		n.want("active", "3")
		n.want("asleep", "1 call")
		if err := n.store.Put(cluster.PartitionOf(id("missed")), &missed); err != nil {
			t.Fatal(err)
		}
		n.want("missed", "1 call")
		time.Sleep(45 * time.Second)
		n.want("active", "4") // it can only end, so it has its idle time for that
		time.Sleep(62 * time.Second)
		synctest.Wait()
		if got := n.passivated(); !slices.Equal(got, []string{"active idle"}) || n.silo.Stats().Dropped["replaced"] != 3 {
			t.Errorf("passivated %q, %v", got, n.silo.Stats().Dropped)
		}
		n.want("active", "1 call")
	})
}

// What an actor of the new version leaves is not taken for the old one's, however late the silo hears of the version.
func TestWhatTheNewVersionLeavesStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, nil)
		since := time.Now()
		n.want("a", "1 call")
		e := n.silo.shard(id("a")).entries[id("a")]
		n.silo.send(e, "evicted", true, time.Time{})
		<-e.gone
		time.Sleep(2 * time.Second)
		n.silo.Replaced("k", since)
		synctest.Wait()
		n.want("a", "2 wake")
	})
}

// Volatile actors sleep where room is needed, rather than end; but not for longer than they would have been active.
func TestVolatileOnesSleepUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := sleepyNode(t, func(c *Config, k *Kind) {
			c.MaxActors = 1
			k.Desc.State.Level = abi.LevelVolatile
		})
		n.want("a", "1 call")
		time.Sleep(40 * time.Second)
		if n.store.len() != 0 {
			t.Error("asleep without need")
		}
		n.want("b", "1 call")
		synctest.Wait()
		if n.store.len() != 1 {
			t.Errorf("%d asleep", n.store.len())
		}
		time.Sleep(19 * time.Second)
		n.want("a", "2 wake") // within a minute from its last use, at the cost of b
		synctest.Wait()
		time.Sleep(42 * time.Second)
		n.want("b", "1 call") // more than a minute from its last
		time.Sleep(time.Second)
		n.silo.PassivateIdle(t.Context())
		n.want("b", "1 call") // volatile state ends when somebody says so
	})
}

func TestSleepersOfVolatileKindsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pressure atomic.Int64 // percent
		n := sleepyNode(t, func(c *Config, k *Kind) {
			c.Pressure = func() float64 { return float64(pressure.Load()) / 100 }
			k.Desc.State.Level = abi.LevelVolatile
		})
		for i := range 10 {
			n.want(numbered("a", i), "1 call")
		}
		pressure.Store(100)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n.store.len() != 10 {
			t.Errorf("%d asleep", n.store.len())
		}
		pressure.Store(0)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if n.store.len() != 0 {
			t.Errorf("%d asleep", n.store.len())
		}
	})
}

// volatileNode is a node whose actors sleep only where room is needed, with one that does, a.
func volatileNode(t *testing.T) *node {
	n := sleepyNode(t, func(c *Config, k *Kind) { k.Desc.State.Level = abi.LevelVolatile })
	n.sleeps("a")
	return n
}

// sleeps uses an actor and has it sleep.
func (n *node) sleeps(name string) {
	n.want(name, "1 call")
	e := n.silo.entry(id(name))
	n.silo.send(e, "evicted", true, time.Time{})
	<-e.gone
}

// However long it takes to look for what is to expire, the sweep goes on meanwhile, there is one such look at a time, and the end waits for it and
// no longer than for the partition it is at.
func TestTheSweepDoesNotWaitForTheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := volatileNode(t)
		var looks atomic.Int64 // at a partition
		release := make(chan struct{})
		n.store.onWalk(func(uint16) error {
			looks.Add(1)
			<-release
			return nil
		})
		time.Sleep(30 * time.Second)
		n.want("b", "1 call") // it is idle when the look has begun
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := n.passivated(); looks.Load() != 1 || !slices.Equal(got, []string{"b idle"}) {
			t.Errorf("%d looks, passivated %q", looks.Load(), got)
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			n.silo.Close()
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("closed while it is looked for what is to expire")
		default:
		}
		close(release)
		<-closed
		if looks.Load() != 1 {
			t.Errorf("%d looks", looks.Load())
		}
	})
}

// A kind of which nothing sleeps is not looked for, until something does, also if that falls asleep during the look that finds nothing.
func TestTheExpiryLooksForWhatThereIs(t *testing.T) {
	for name, happens := range map[string]func(n *node){
		"nothing": func(n *node) {},
		"falls asleep where it was looked already": func(n *node) {
			empty := false
			n.store.onWalk(func(p uint16) error {
				if p == 0 {
					empty = n.store.len() == 0
				}
				if p == cluster.Partitions-1 && empty {
					n.store.onWalk(nil)
					n.sleeps("b")
				}
				return nil
			})
		},
		"takes long to fall asleep": func(n *node) {
			time.Sleep(90 * time.Second)
			synctest.Wait()
			if n.store.len() != 0 || len(n.silo.states.keptKinds()) != 1 {
				n.t.Errorf("%d sleep", n.store.len())
			}
			n.store.putting = func(*sleep.Sleeper) { time.Sleep(3 * time.Minute) }
			n.sleeps("b")
			n.store.putting = nil
			if n.store.len() != 1 {
				n.t.Error("it is awake")
			}
		},
		"is taken and brought back": func(n *node) {
			start := n.start
			defer func() { n.start = start }()
			n.start = func() error {
				time.Sleep(3 * time.Minute)
				return abi.NewError(abi.ErrOverloaded, "no slot")
			}
			env := n.env("a", "m", "")
			env.Deadline = time.Now().Add(time.Hour)
			if _, err := n.api.Send(n.t.Context(), env); abi.CodeOf(err) != abi.ErrOverloaded || n.store.len() != 1 {
				n.t.Errorf("%v, %d sleep", err, n.store.len())
			}
		},
		"cannot be read for a while": func(n *node) {
			until := time.Now().Add(5 * time.Minute)
			n.store.onWalk(func(uint16) error {
				if time.Now().Before(until) {
					return errors.New("the disk fails")
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := volatileNode(t)
				happens(n)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if n.store.len() != 0 {
					t.Errorf("%d sleep", n.store.len())
				}
				n.store.onWalk(func(uint16) error {
					t.Error("it is looked for what nobody has left")
					n.store.onWalk(nil)
					return nil
				})
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				n.store.onWalk(nil)
				n.sleeps("c")
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if n.store.len() != 0 {
					t.Errorf("%d sleep again", n.store.len())
				}
			})
		})
	}
}

// Pressure takes those first that are of the least worth: used seldom, long ago, and large.
func TestPressureTakesTheLeastWorthFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pressure atomic.Int64 // percent
		n := sleepyNode(t, func(c *Config, k *Kind) {
			c.Pressure = func() float64 { return float64(pressure.Load()) / 100 }
			k.Hibernate = time.Minute
		})
		for range 100 {
			n.must("often", "m", "")
		}
		n.must("seldom", "m", "")
		time.Sleep(10 * time.Second)
		n.must("lately", "m", "")
		time.Sleep(1500 * time.Millisecond) // between two looks
		pressure.Store(99)
		order := ""
		for range 10 {
			time.Sleep(time.Second)
			synctest.Wait()
			for _, a := range []string{"often", "seldom", "lately"} {
				if n.store.Has(0, id(a)) && !strings.Contains(order, a) {
					order += a + " "
				}
			}
		}
		if order != "seldom lately often " {
			t.Errorf("they went %s", order)
		}
	})
}

func TestMustExistWakesASleeper(t *testing.T) {
	n := sleepyNode(t, nil)
	flagged := func(name string, f abi.Flags) (string, error) {
		env := n.env(name, "m", "")
		env.Flags = f
		b, err := n.api.Send(t.Context(), env)
		return string(b), err
	}
	if _, err := flagged("a", abi.MustExist); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("%v", err)
	}
	n.want("a", "1 call")
	n.silo.PassivateIdle(t.Context())
	if _, err := flagged("a", abi.OnlyIfActive); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("%v", err)
	}
	if got, err := flagged("a", abi.MustExist); err != nil || got != "2 wake" {
		t.Errorf("%q, %v", got, err)
	}
}

// Under a little pressure idle actors rest before their time, and stay.
func TestActorsRestEarlyUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pressure atomic.Int64 // percent
		n := sleepyNode(t, func(c *Config, k *Kind) {
			c.Pressure = func() float64 { return float64(pressure.Load()) / 100 }
			k.Hibernate = time.Minute
		})
		n.want("a", "1 call")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n.silo.Hot() != 1 {
			t.Error("it rests without need")
		}
		pressure.Store(66)
		n.silo.Relieve() // at once
		synctest.Wait()
		if st := n.silo.Stats(); n.silo.Hot() != 0 || st.Activations != 1 || st.Evictions != 0 {
			t.Errorf("%d are hot, %+v", n.silo.Hot(), st)
		}
		pressure.Store(0)
		n.want("a", "2")
	})
}
