package silo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/silo/sleep"
)

var (
	_ API              = (*place)(nil)
	_ cluster.Observer = observer{}
)

func epoch(n uint64) abi.Epoch { return abi.Epoch{Index: n} }

// at sets the epoch under which a place has all actors.
func (p *place) at(e abi.Epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch = func(abi.Identity) abi.Epoch { return e }
}

// Whatever calls, sleep and moves there are, given up ones among them, every actor counts what it was asked, and runs nowhere twice.
func TestMovesLoseNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		places := []*place{w.place(nil, sleep.Config{}), w.place(nil, sleep.Config{Dir: t.TempDir()})}
		defer places[0].close()
		defer places[1].close()
		var mu sync.Mutex
		owner := map[bool]int{}                                       // of each half
		epochs := map[bool]abi.Epoch{false: epoch(1), true: epoch(1)} // of its assignment
		halfOf := func(i abi.Identity) bool { return cluster.PartitionOf(i)%2 == 1 }
		for _, p := range places {
			p.epoch = func(i abi.Identity) abi.Epoch {
				mu.Lock()
				defer mu.Unlock()
				return epochs[halfOf(i)]
			}
		}
		last, move := uint64(1), cluster.MoveID(0)
		counts := map[abi.Identity]int{}
		name := rapid.Custom(func(t *rapid.T) abi.Identity { return id(numbered("a", rapid.IntRange(0, 30).Draw(t, "actor"))) })
		bool := rapid.Bool()
		rt.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				i := name.Draw(t, "who")
				counts[i]++
				if got, err := places[owner[halfOf(i)]].call(i, "add", ""); err != nil || got != fmt.Sprint(counts[i]) {
					t.Fatalf("%s answers %q, %v, was asked %d times", i, got, err, counts[i])
				}
			},
			"sleep": func(t *rapid.T) {
				if err := places[rapid.IntRange(0, 1).Draw(t, "place")].silo.PassivateIdle(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
			"give up": func(t *rapid.T) { // while a turn runs
				i := name.Draw(t, "who")
				p := places[owner[halfOf(i)]]
				counts[i]++
				replied := make(chan string)
				go func() {
					got, err := p.call(i, "block", "")
					replied <- fmt.Sprint(got, err)
				}()
				<-p.entered
				ctx, cancel := context.WithCancel(context.Background())
				p.hold()
				ended := make(chan error)
				go func() { ended <- p.silo.Surrender(ctx, half(halfOf(i))) }()
				if bool.Draw(t, "late") {
					for busy := p.silo.under(cluster.Lease{Identity: i, Epoch: p.epoch(i)}); !busy.Status().Closing; {
						runtime.Gosched()
					}
				}
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Fatalf("surrender: %v", err)
				}
				p.letGo(p)
				p.resume <- struct{}{}
				if got := <-replied; got != fmt.Sprint(counts[i], "<nil>") {
					t.Fatalf("%s answers %s, was asked %d times", i, got, counts[i])
				}
			},
			"move": func(t *rapid.T) {
				h := bool.Draw(t, "odd")
				from, to := places[owner[h]], places[1-owner[h]]
				part := half(h)
				move++
				from.hold()
				if err := from.silo.Surrender(context.Background(), part); err != nil {
					t.Fatal(err)
				}
				chunks, m := from.export(part, rapid.IntRange(0, 500).Draw(t, "chunk"))
				for _, b := range chunks {
					if bool.Draw(t, "damage") {
						before, _ := to.silo.Staged(move)
						bad := slices.Clone(b)
						bad[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
						if to.silo.Import(move, part, bad) == nil {
							t.Fatal("a damaged chunk was imported")
						}
						if after, _ := to.silo.Staged(move); after != before {
							t.Fatal("of a damaged chunk something was staged")
						}
					}
					if err := to.silo.Import(move, part, b); err != nil {
						t.Fatal(err)
					}
				}
				if got, foreign := to.silo.Staged(move); got != m || foreign != nil {
					t.Fatalf("%v arrived of %v, foreign %v", got, m, foreign)
				}
				if bool.Draw(t, "rejected") {
					to.silo.Reject(move)
					from.letGo(from)
					return
				}
				last++
				mu.Lock()
				old := epochs[h]
				epochs[h] = epoch(last)
				mu.Unlock()
				owner[h] = 1 - owner[h]
				if err := to.silo.Accept(move, epoch(last)); err != nil {
					t.Fatal(err)
				}
				if err := to.silo.Accept(move, epoch(last)); !errors.Is(err, cluster.ErrMoveUnknown) {
					t.Fatalf("accepted twice: %v", err)
				}
				from.silo.Forget(cluster.Loss{Kind: "k", Partitions: part.Partitions, Epoch: old})
				from.letGo(to)
			},
		})
		for i, n := range counts {
			if got, err := places[owner[halfOf(i)]].call(i, "get", ""); err != nil || got != fmt.Sprint(n) {
				rt.Errorf("%s has %q, %v, was asked %d times", i, got, err, n)
			}
		}
		if len(w.told) > 0 {
			rt.Errorf("last turns of actors that hibernate: %q", w.told)
		}
	})
}

// Of calls, posts and one-way messages that come while actors are surrendered and moved, each has its one reply or is given back, and each
// has effect once.
func TestMessagesDuringASurrender(t *testing.T) {
	w := newWorld(t)
	a, b := w.place(nil, sleep.Config{}), w.place(nil, sleep.Config{})
	defer a.close()
	defer b.close()
	b.at(epoch(2))
	const actors, senders = 40, 6
	for i := range actors {
		a.want(id(numbered("a", i)), "get", "0")
	}
	moved, stop := make(chan struct{}), make(chan struct{})
	var gone atomic.Bool
	var replies [actors]map[string]bool
	var counts [actors]int // of replies and one-way messages
	var mu sync.Mutex
	var givenBack, posted int
	reply := func(i int, out string) {
		mu.Lock()
		defer mu.Unlock()
		if replies[i] == nil {
			replies[i] = map[string]bool{}
		}
		if replies[i][out] {
			t.Errorf("actor %d answered %s twice", i, out)
		}
		replies[i][out] = true
		counts[i]++
	}
	var wg, posts sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				i := (n*7 + s) % actors
				who := id(numbered("a", i))
				to := a
				if gone.Load() {
					to = b
				}
				env := &abi.Envelope{Target: who, Method: "add", Deadline: time.Now().Add(time.Minute)}
				switch n % 3 {
				case 0:
					out, err := to.Send(context.Background(), env)
					switch {
					case err == nil:
						reply(i, string(out))
					case abi.CodeOf(err) == abi.ErrOwnershipChanged:
						mu.Lock()
						givenBack++
						mu.Unlock()
						select {
						case <-moved:
						case <-stop:
						}
					default:
						t.Errorf("%s: %v", who, err)
					}
				case 1:
					posts.Add(1)
					called := new(atomic.Bool)
					err := to.Post(env, func(out []byte, err error) {
						if err != nil || called.Swap(true) {
							t.Errorf("%s: %v, or answered twice", who, err)
						}
						reply(i, string(out))
						posts.Done()
					})
					if err != nil && abi.CodeOf(err) != abi.ErrMailboxFull {
						t.Errorf("%s: %v", who, err)
					}
					if err != nil {
						posts.Done()
					}
				case 2:
					env.Flags = abi.OneWay
					if err := to.Post(env, nil); err == nil {
						mu.Lock()
						counts[i]++
						posted++
						mu.Unlock()
					}
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // so that all is under way; nothing depends on it
	a.hold()
	if err := a.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
		t.Fatal(err)
	}
	if st := a.silo.Stats(); st.Activations != 0 || st.Sleepers != actors {
		t.Errorf("%d active and %d asleep after the surrender", st.Activations, st.Sleepers)
	}
	chunks, m := a.export(cluster.Part{}, 300)
	for _, c := range chunks {
		if err := b.silo.Import(1, cluster.Part{}, c); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := b.silo.Staged(1); got != m {
		t.Fatalf("%v arrived of %v", got, m)
	}
	if err := b.silo.Accept(1, abi.Epoch{}); !errors.Is(err, cluster.ErrMoveEpoch) {
		t.Errorf("under an earlier epoch: %v", err)
	}
	if err := b.silo.Accept(1, epoch(2)); err != nil {
		t.Fatal(err)
	}
	a.silo.Forget(cluster.Loss{Epoch: epoch(1)})
	gone.Store(true)
	close(moved)
	time.Sleep(20 * time.Millisecond)
	close(stop)
	wg.Wait()
	a.letGo(b)
	posts.Wait()
	for i := range actors {
		b.want(id(numbered("a", i)), "get", fmt.Sprint(counts[i]))
	}
	t.Logf("%d given back, %d one-way messages", givenBack, posted)
}

// What a running turn asks of actors that are surrendered with it is done, though they have ended before; a deferred reply is waited for,
// and so is a call under way.
func TestASurrenderFinishesWhatTurnsWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.place(nil, sleep.Config{})
		defer p.close()
		p.want(id("asked"), "add", "1")
		got := make(chan string, 3)
		ask := func(who, method, payload string) {
			out, err := p.call(id(who), method, payload)
			got <- fmt.Sprint(out, " ", err)
		}
		go ask("asking", "block and ask", "asked")
		<-p.entered
		go ask("deferring", "later", "blocked")
		<-p.entered
		synctest.Wait()
		go ask("asking", "add", "") // waits in the mailbox
		synctest.Wait()

		p.hold()
		ended := make(chan error, 1)
		part := cluster.Part{}
		go func() { ended <- p.silo.Surrender(t.Context(), part) }()
		synctest.Wait()
		if out := <-got; !strings.Contains(out, "activation has ended") {
			t.Errorf("what waited got %s", out)
		}
		if _, active := p.ledger[id("asked")]; active {
			t.Error("the idle one goes on")
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended while turns ran: %v", err)
		default:
		}
		if _, err := p.call(id("asking"), "add", ""); abi.CodeOf(err) != abi.ErrOwnershipChanged {
			t.Errorf("what comes meanwhile got %v", err)
		}
		p.resume <- struct{}{}
		p.resume <- struct{}{}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		all := []string{<-got, <-got}
		slices.Sort(all)
		if !slices.Equal(all, []string{"1 after 1 <nil>", "1 after 2 <nil>"}) {
			t.Errorf("%q", all)
		}
		if st := p.silo.Stats(); st.Activations != 0 || st.Sleepers != 4 {
			t.Errorf("%+v", st)
		}
		p.letGo(p)
		p.want(id("asked"), "get", "2")
		p.want(id("asking"), "get", "1")
		p.want(id("deferring"), "get", "1")
	})
}

// Messages that nobody stands and waits for are posted anew, in order, and with what an actor asks in its turn stays what it has told
// before.
func TestASurrenderKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.place(nil, sleep.Config{}), w.place(nil, sleep.Config{})
		defer a.close()
		defer b.close()
		go a.call(id("a"), "block", "")
		<-a.entered
		tell := func(caller, note string) {
			e := &abi.Envelope{Target: id("a"), Method: "m", Payload: []byte(note), Flags: abi.OneWay, Deadline: time.Now().Add(time.Minute)}
			if caller != "" {
				e.Caller = id(caller)
			}
			if err := a.Post(e, nil); err != nil {
				t.Fatal(err)
			}
		}
		tell("other", "later 1")
		tell("asking", "first 1")
		tell("", "later 2")
		tell("asking", "first 2")
		answer := make(chan string, 1)
		err := a.Post(&abi.Envelope{Target: id("a"), Method: "get", Caller: id("asking"), Chain: []abi.Identity{id("asking")}, Deadline: time.Now().Add(time.Minute)},
			func(out []byte, err error) { answer <- fmt.Sprint(string(out), err) })
		if err != nil {
			t.Fatal(err)
		}
		tell("asking", "later 3")
		a.hold()
		ended := make(chan error, 1)
		go func() { ended <- a.silo.Surrender(t.Context(), cluster.Part{}) }()
		synctest.Wait()
		a.resume <- struct{}{}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if out := <-answer; out != "3<nil>" {
			t.Errorf("the request got %s", out)
		}
		a.letGo(b)
		synctest.Wait()
		if got := w.notes[id("a")]; !slices.Equal(got, []string{"first 1", "first 2", "later 1", "later 2", "later 3"}) {
			t.Errorf("%q", got)
		}
	})
}

// A surrender that is given up leaves everything as it was: what has ended goes on with its next message, the rest takes messages again.
func TestASurrenderThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld(t).place(nil, sleep.Config{})
		defer p.close()
		p.want(id("idle"), "add", "1")
		blocked := make(chan string, 1)
		go func() {
			out, err := p.call(id("busy"), "block", "")
			blocked <- fmt.Sprint(out, err)
		}()
		<-p.entered
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.hold()
		if err := p.silo.Surrender(ctx, cluster.Part{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		p.letGo(p)
		next := make(chan string, 1)
		go func() {
			out, err := p.call(id("busy"), "add", "")
			next <- fmt.Sprint(out, err)
		}()
		synctest.Wait()
		p.resume <- struct{}{}
		if a, b := <-blocked, <-next; a != "1<nil>" || b != "2<nil>" {
			t.Errorf("%s and %s", a, b)
		}
		p.want(id("idle"), "add", "2")
		if starts := p.kind.Counters.Wakes.Load(); starts != 1 {
			t.Errorf("%d wakes: only the idle one had ended", starts)
		}
	})
}

// What cannot be captured for a moment is asked again; for as long as that lasts nothing of it is lost.
func TestASurrenderThatCannotCapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld(t).place(nil, sleep.Config{})
		defer p.close()
		p.want(id("a"), "add", "1")
		fail := func(err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.capture = func() error { return err }
		}
		fail(errors.New("no room for that"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.silo.Surrender(ctx, cluster.Part{})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "k/a cannot be kept: no room for that") {
			t.Fatal(err)
		}
		p.want(id("a"), "add", "2")
		go func() {
			time.Sleep(time.Second)
			fail(nil)
		}()
		if err := p.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
			t.Fatal(err)
		}
		p.want(id("a"), "add", "3")
		fail(abi.NewError(abi.ErrUnsupported, "never")) // it ends as at a shutdown
		if err := p.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.told, []string{"a moved"}) {
			t.Errorf("%q", p.told)
		}
	})
}

// What a turn asks of an actor in the midst of whose capture it comes is done by the next activation, which ends with the same surrender.
func TestAMessageDuringACapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld(t).place(nil, sleep.Config{})
		defer p.close()
		p.want(id("a"), "add", "1")
		answer := make(chan string, 1)
		var once sync.Once
		p.capture = func() error {
			once.Do(func() {
				env := &abi.Envelope{Target: id("a"), Method: "add", Caller: id("b"), Chain: []abi.Identity{id("b")}, Deadline: time.Now().Add(time.Minute)}
				if err := p.Post(env, func(out []byte, err error) { answer <- fmt.Sprint(string(out), err) }); err != nil {
					t.Error(err)
				}
			})
			return nil
		}
		p.hold()
		if err := p.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if out := <-answer; out != "2<nil>" {
			t.Errorf("it got %s", out)
		}
		if st := p.silo.Stats(); st.Activations != 0 || st.Sleepers != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Volatile actors end as at a shutdown, and what was kept of them for want of room does not travel.
func TestVolatileStateDoesNotTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld(t).place(func(_ *Config, k *Kind) { k.Desc.State.Level = abi.LevelVolatile }, sleep.Config{})
		defer p.close()
		for _, name := range []string{"asleep", "active"} {
			p.want(id(name), "add", "1")
		}
		e := p.silo.shard(id("asleep")).entries[id("asleep")]
		if !p.silo.send(e, "evicted", true, time.Time{}) {
			t.Fatal("it does not sleep")
		}
		<-e.gone
		if err := p.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
			t.Fatal(err)
		}
		if chunks, m := p.export(cluster.Part{}, 100); len(chunks) != 1 || m.Actors != 0 {
			t.Errorf("%d chunks, %v", len(chunks), m)
		}
		if !slices.Equal(p.told, []string{"active moved"}) {
			t.Errorf("%q", p.told)
		}
		p.want(id("asleep"), "add", "2") // the move was given up
	})
}

// A shutdown goes before a surrender that waits, and a revocation does.
func TestWhatEndsASurrender(t *testing.T) {
	for _, end := range []string{"shutdown", "revoked"} {
		synctest.Test(t, func(t *testing.T) {
			p := newWorld(t).place(nil, sleep.Config{})
			defer p.close()
			go p.call(id("a"), "block", "")
			<-p.entered
			ended := make(chan error, 1)
			go func() { ended <- p.silo.Surrender(t.Context(), cluster.Part{}) }()
			synctest.Wait()
			drained := make(chan error, 1)
			if end == "revoked" {
				p.silo.Forget(cluster.Loss{Epoch: epoch(1)})
				p.silo.Revoke(cluster.Lease{Identity: id("a"), Epoch: epoch(1)})
				drained <- nil
			} else {
				go func() { drained <- p.silo.Drain(t.Context()) }()
			}
			synctest.Wait()
			p.resume <- struct{}{}
			if err := errors.Join(<-ended, <-drained); err != nil {
				t.Fatal(err)
			}
			if p.store.Stats().Sleepers != 0 {
				t.Error("it was kept")
			}
		})
	}
}

// asleep is a place with some that sleep, their chunks and manifest.
func asleep(t testing.TB, w *world, n, chunk int) (p *place, chunks [][]byte, m cluster.Manifest) {
	p = w.place(nil, sleep.Config{})
	for i := range n {
		p.want(id(numbered("a", i)), "add", "1")
	}
	if err := p.silo.Surrender(context.Background(), cluster.Part{}); err != nil {
		t.Fatal(err)
	}
	chunks, m = p.export(cluster.Part{}, chunk)
	return p, chunks, m
}

// A chunk that is damaged anywhere, or cut off, is refused, and nothing of it is staged.
func TestDamagedChunks(t *testing.T) {
	w := newWorld(t)
	a, chunks, m := asleep(t, w, 3, 1<<20)
	defer a.close()
	b := w.place(nil, sleep.Config{})
	defer b.close()
	whole := chunks[0]
	if len(chunks) != 1 || m.Actors != 3 || int(m.Bytes) != len(whole)-chunkHead {
		t.Fatalf("%d chunks, %v", len(chunks), m)
	}
	try := func(what string, bad []byte) {
		err := b.silo.Import(1, cluster.Part{}, bad)
		if !errors.Is(err, cluster.ErrChunkDamaged) && !errors.Is(err, cluster.ErrChunkVersion) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range whole {
		for bit := range 8 {
			bad := slices.Clone(whole)
			bad[i] ^= 1 << bit
			try(fmt.Sprintf("bit %d of byte %d", bit, i), bad)
		}
		try(fmt.Sprint(i, " bytes"), whole[:i])
		if i >= chunkHead { // what is wrong with a record shows by its own checksums too
			bad := resum(slices.Clone(whole[:i]))
			try(fmt.Sprint(i, " bytes with a checksum"), bad)
			bad = slices.Clone(whole)
			bad[i] ^= 0x10
			try(fmt.Sprint("byte ", i, " with a checksum"), resum(bad))
		}
	}
	try("more", append(slices.Clone(whole), 0))
	newer := slices.Clone(whole)
	newer[3] = 3
	if err := b.silo.Import(1, cluster.Part{}, resum(newer)); !errors.Is(err, cluster.ErrChunkVersion) || !strings.Contains(err.Error(), "it has 3, this node reads up to 2") {
		t.Error(err)
	}
	if got, _ := b.silo.Staged(1); got != (cluster.Manifest{}) || b.store.Stats().Staged != 0 {
		t.Errorf("%v is staged", got)
	}
	if err := b.silo.Accept(1, epoch(1)); !errors.Is(err, cluster.ErrMoveUnknown) {
		t.Error(err)
	}
}

// resum makes the chunk's own checksum right.
func resum(b []byte) []byte {
	binary.LittleEndian.PutUint64(b[4:], xxhash.Sum64(b[12:]))
	return b
}

// What does not belong to a move is refused, the chunk as a whole; what was staged is dropped with the move.
func TestImportLimits(t *testing.T) {
	w := newWorld(t)
	a, chunks, m := asleep(t, w, 20, 200)
	defer a.close()
	left := int64(1 << 20)
	b := w.place(func(c *Config, _ *Kind) { c.Room = func() (int64, int64) { return left, 0 } }, sleep.Config{})
	defer b.close()
	if len(chunks) < 5 {
		t.Fatalf("%d chunks", len(chunks))
	}
	for _, c := range chunks {
		if len(c) > 200 {
			t.Errorf("a chunk has %d bytes", len(c))
		}
	}
	all := cluster.Part{}
	elsewhere := half(cluster.PartitionOf(id(numbered("a", 0)))%2 == 0)
	whole, _ := a.export(all, 1<<20)
	for what, part := range map[string]cluster.Part{"kind": {Kinds: []string{"other"}}, "partition": elsewhere} {
		if err := b.silo.Import(1, part, whole[0]); !errors.Is(err, cluster.ErrChunkForeign) || !strings.Contains(err.Error(), "k/a00") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, c := range chunks {
		if err := b.silo.Import(1, all, c); err != nil {
			t.Fatal(err)
		}
		before, _ := b.silo.Staged(1)
		if err := b.silo.Import(1, all, chunks[i/2]); !errors.Is(err, cluster.ErrChunkForeign) {
			t.Errorf("twice: %v", err)
		}
		if i == len(chunks)-1 {
			if err := b.silo.Import(1, all, whole[0]); !errors.Is(err, cluster.ErrChunkForeign) {
				t.Errorf("all of it twice: %v", err)
			}
		}
		if after, _ := b.silo.Staged(1); after != before || b.store.Stats().Staged != int(after.Actors) {
			t.Fatalf("%v, then %v", before, after)
		}
	}
	if got, _ := b.silo.Staged(1); got != m {
		t.Errorf("%v of %v", got, m)
	}
	if b.silo.Keeps(id(numbered("a", 1))) {
		t.Error("what is staged counts as kept")
	}
	b.want(id(numbered("a", 1)), "get", "0") // and cannot be woken
	b.silo.Reject(1)
	b.silo.Reject(1)
	if got, _ := b.silo.Staged(1); got != (cluster.Manifest{}) || b.store.Stats().Staged != 0 || b.store.Stats().Sleepers != 0 {
		t.Errorf("%v is left, %+v", got, b.store.Stats())
	}
	if err := b.silo.Accept(1, epoch(1)); !errors.Is(err, cluster.ErrMoveUnknown) {
		t.Error(err)
	}
	left = 100
	if err := b.silo.Import(2, all, chunks[0]); abi.CodeOf(err) != abi.ErrOverloaded {
		t.Errorf("without room: %v", err)
	}
	left = 1 << 20
	for i := range mostMoves {
		if err := b.silo.Import(cluster.MoveID(100+i), all, (&chunkWriter{}).empty()); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := b.silo.Import(2, all, chunks[0]); abi.CodeOf(err) != abi.ErrOverloaded {
		t.Errorf("beyond the most moves: %v", err)
	}
}

func (w *chunkWriter) empty() (b []byte) {
	w.emit = func(c []byte) error { b = c; return nil }
	_ = w.end()
	return b
}

// The bound of what sleeps is that of what is staged too: it is spilled like that, or refused where it cannot be.
func TestStagingIsBounded(t *testing.T) {
	w := newWorld(t)
	a, chunks, m := asleep(t, w, 2000, 4096)
	defer a.close()
	small := w.place(nil, sleep.Config{MaxBytes: 32 << 10})
	defer small.close()
	var err error
	n := 0
	for _, c := range chunks {
		if err = small.silo.Import(1, cluster.Part{}, c); err != nil {
			break
		}
		n++
	}
	if abi.CodeOf(err) != abi.ErrOverloaded || n == 0 {
		t.Fatalf("after %d of %d chunks: %v", n, len(chunks), err)
	}
	if got, _ := small.silo.Staged(1); int(got.Actors) != small.store.Stats().Staged {
		t.Errorf("%v, %+v", got, small.store.Stats())
	}
	small.silo.Reject(1)

	spills := w.place(nil, sleep.Config{MaxBytes: 64 << 10, Dir: t.TempDir()})
	defer spills.close()
	for _, c := range chunks {
		if err := spills.silo.Import(1, cluster.Part{}, c); err != nil {
			t.Fatal(err)
		}
	}
	if st := spills.store.Stats(); st.Spilled == 0 || st.Staged != 2000 {
		t.Errorf("%+v", st)
	}
	if got, _ := spills.silo.Staged(1); got != m {
		t.Errorf("%v of %v", got, m)
	}
	if err := spills.silo.Accept(1, epoch(1)); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		spills.want(id(numbered("a", i)), "add", "2")
	}
}

// withTimers adds timers to what an actor of a place is told of.
func withTimers(_ *Config, k *Kind) {
	k.Desc.Events = append(k.Desc.Events, abi.EventTimer)
}

// An actor with a timer moves with it. A node that knows nothing of timers takes what has none, and refuses the rest.
func TestTimersMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, b := w.place(withTimers, sleep.Config{}), w.place(withTimers, sleep.Config{})
		defer a.close()
		defer b.close()
		b.at(epoch(2))
		for _, name := range []string{"a", "ticks", "z"} {
			a.want(id(name), "add", "1")
		}
		a.want(id("ticks"), "tick", "1")
		time.Sleep(5500 * time.Millisecond)
		a.want(id("ticks"), "get", "6")
		a.hold()
		if err := a.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
			t.Fatal(err)
		}
		chunks, m := a.export(cluster.Part{}, 0) // one each
		var versions []byte
		for _, c := range chunks {
			versions = append(versions, c[3])
			if err := b.silo.Import(1, cluster.Part{}, c); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(versions)
		if !slices.Equal(versions, []byte{chunkPlain, chunkPlain, chunkTimed}) {
			t.Errorf("chunks of versions %d", versions)
		}
		if all, _ := a.export(cluster.Part{}, 1<<20); len(all) != 1 || all[0][3] != chunkTimed {
			t.Errorf("%d chunks, the first is %x", len(all), all[0])
		}
		if got, _ := b.silo.Staged(1); got != m {
			t.Fatalf("%v of %v", got, m)
		}
		time.Sleep(2 * time.Second)
		if err := b.silo.Accept(1, epoch(2)); err != nil {
			t.Fatal(err)
		}
		b.want(id("ticks"), "get", "6")
		time.Sleep(3 * time.Second) // of the ticks after 6 and 7 s one is left, which is late
		b.want(id("ticks"), "get", "10")
		b.want(id("a"), "add", "2")
		b.want(id("z"), "add", "2")
	})
}

// What moved with a timer, or was to move, wakes by itself once its part is open; what has none sleeps on.
func TestTimersWakeAfterAMove(t *testing.T) {
	for _, given := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.place(withTimers, sleep.Config{}), w.place(withTimers, sleep.Config{})
			defer a.close()
			defer b.close()
			b.at(epoch(2))
			const actors = 40
			time.Sleep(250 * time.Millisecond) // so that they do not tick when the silo looks
			for i := range actors {
				a.want(id(numbered("a", i)), "add", "1")
				a.want(id(numbered("ticks", i)), "tick", "0")
			}
			a.hold()
			if err := a.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
				t.Fatal(err)
			}
			chunks, _ := a.export(cluster.Part{}, 1<<20)
			if err := b.silo.Import(1, cluster.Part{}, chunks[0]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3500 * time.Millisecond)
			if n, m := a.silo.Stats().Activations, b.silo.Stats().Activations; n != 0 || m != 0 {
				t.Fatalf("%d and %d are awake while the part is held", n, m)
			}
			at, owner := b, epoch(2)
			if given {
				if err := b.silo.Accept(1, owner); err != nil {
					t.Fatal(err)
				}
				a.silo.Forget(cluster.Loss{Kind: "k", Epoch: epoch(1), Planned: true})
			} else {
				b.silo.Reject(1)
				a.letGo(a)
				at = a
			}
			time.Sleep(3200 * time.Millisecond) // what was missed counts once
			synctest.Wait()
			if n := at.silo.Stats(); n.Activations != actors || n.Sleepers != actors {
				t.Errorf("%d are awake, and %d sleep", n.Activations, n.Sleepers)
			}
			for i := range actors {
				if got, err := at.call(id(numbered("ticks", i)), "get", ""); err != nil || got != "4" {
					t.Fatalf("%s ticks, %v", got, err)
				}
			}
			if len(at.silo.states.timed.all)+len(a.silo.states.timed.all) != 0 {
				t.Error("the silo still minds some")
			}
		})
	}
}

// Another version of the module at the receiver is said before the move is accepted. The states wait for their version, and are
// given up when they are to wake without it.
func TestAMoveBetweenVersions(t *testing.T) {
	for _, comes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a, chunks, _ := asleep(t, w, 10, 1<<20)
			defer a.close()
			b := w.place(func(_ *Config, k *Kind) { k.Version = "v0" }, sleep.Config{})
			defer b.close()
			time.Sleep(10 * time.Second) // so that they slept before the version comes
			if err := b.silo.Import(1, cluster.Part{}, chunks[0]); err != nil {
				t.Fatal(err)
			}
			if _, foreign := b.silo.Staged(1); len(foreign) != 1 || foreign["k"] != 10 {
				t.Errorf("foreign: %v", foreign)
			}
			if err := b.silo.Accept(1, epoch(1)); err != nil {
				t.Fatal(err)
			}
			want := "1"
			if comes {
				next := *b.kind
				next.Version = "v1"
				b.kinds.Lock()
				b.kind = &next
				b.kinds.Unlock()
				b.silo.Replaced("k", time.Now())
				synctest.Wait()
				want = "2"
			}
			for i := range 10 {
				b.want(id(numbered("a", i)), "add", want)
			}
			if n := b.silo.Stats().Dropped["replaced"]; comes != (n == 0) || !comes && n != 10 {
				t.Errorf("%d were given up", n)
			}
		})
	}
}

// dropping is a store that says when what sleeps of a kind is to be dropped.
type dropping struct {
	*sleep.Store
	begun func()
}

func (d dropping) DropKind(kind string, which func(sleep.Info) bool) int {
	d.begun()
	return d.Store.DropKind(kind, which)
}

// What comes with a move from a node that has the next version already is this node's own once it has that version too, whichever of the two
// the silo hears of first, and also while it gives up what the version before has left.
func TestAMoveToANodeThatGetsAnotherVersion(t *testing.T) {
	for _, when := range []string{"before the silo knows", "while it drops"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a, chunks, _ := asleep(t, w, 10, 1<<20)
				defer a.close()
				var b *place
				come := func() {
					if err := b.silo.Import(1, cluster.Part{}, chunks[0]); err != nil {
						t.Error(err)
					}
					if _, foreign := b.silo.Staged(1); len(foreign) != 0 {
						t.Errorf("foreign: %v", foreign)
					}
					if err := b.silo.Accept(1, epoch(1)); err != nil {
						t.Error(err)
					}
				}
				b = w.place(func(c *Config, k *Kind) {
					k.Version = "v0"
					if when == "while it drops" {
						c.Sleepers = dropping{c.Sleepers.(*sleep.Store), come}
					}
				}, sleep.Config{})
				defer b.close()
				b.want(id("old"), "add", "1")
				if err := b.silo.PassivateIdle(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				next, since := *b.kind, time.Now()
				next.Version = "v1"
				b.kinds.Lock()
				b.kind = &next
				b.kinds.Unlock()
				if when != "while it drops" {
					come()
				}
				b.silo.Replaced("k", since)
				synctest.Wait()
				for i := range 10 {
					b.want(id(numbered("a", i)), "add", "2")
				}
				if n := b.silo.Stats().Dropped["replaced"]; n != 1 {
					t.Errorf("%d were given up, and one was of the version before", n)
				}
			})
		})
	}
}

// A node that loses what it hands over, or what it was handed, says so, and keeps nothing of it.
func TestLossesDuringAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, chunks, _ := asleep(t, w, 10, 0) // one each
		defer a.close()
		emitted := 0
		_, err := a.silo.Export(t.Context(), cluster.Part{}, 0, func([]byte) error {
			if emitted++; emitted == 2 {
				a.silo.Forget(cluster.Loss{Epoch: epoch(1)})
				synctest.Wait()
			}
			return nil
		})
		if abi.CodeOf(err) != abi.ErrOwnershipChanged || emitted == len(chunks) {
			t.Errorf("%v after %d chunks", err, emitted)
		}
		b := w.place(nil, sleep.Config{})
		defer b.close()
		for _, c := range chunks {
			if err := b.silo.Import(1, cluster.Part{}, c); err != nil {
				t.Fatal(err)
			}
		}
		b.silo.Forget(cluster.Loss{Kind: "k", Epoch: epoch(5)})
		if err := b.silo.Accept(1, epoch(5)); abi.CodeOf(err) != abi.ErrOwnershipChanged {
			t.Error(err)
		}
		synctest.Wait()
		if n := b.store.Stats().Sleepers; n != 0 {
			t.Errorf("%d sleep", n)
		}
	})
}

// What was handed over as planned is no loss, and what the node had lost before is one all the same.
func TestAPlannedMoveLosesNothing(t *testing.T) {
	for _, lapsed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			a, _, _ := asleep(t, w, 10, 1<<20)
			defer a.close()
			if lapsed {
				a.silo.Forget(cluster.Loss{Epoch: epoch(1)})
			}
			a.silo.Forget(cluster.Loss{Kind: "k", Epoch: epoch(1), Planned: true})
			synctest.Wait()
			want := map[bool]uint64{false: 0, true: 10}[lapsed]
			if st := a.silo.Stats(); st.Sleepers != 0 || st.Dropped["lost"] != want {
				t.Errorf("lapsed %v: %d sleep, %d count as lost", lapsed, st.Sleepers, st.Dropped["lost"])
			}
		})
	}
}

// An activation of before, which has not ended yet, neither takes nor replaces what came with the actor when that was this node's again.
func TestAnOldActivationLeavesWhatIsNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := w.place(nil, sleep.Config{})
		defer b.close()
		b.want(id("a0000"), "add", "1")
		old := b.silo.shard(id("a0000")).entries[id("a0000")]
		b.want(id("a0001"), "add", "1")
		sleepy := b.silo.shard(id("a0001")).entries[id("a0001")]
		b.silo.Forget(cluster.Loss{Epoch: epoch(1)})

		other := newWorld(t)
		a, chunks, _ := asleep(t, other, 2, 1<<20)
		defer a.close()
		if err := b.silo.Import(1, cluster.Part{}, chunks[0]); err != nil {
			t.Fatal(err)
		}
		if err := b.silo.Accept(1, epoch(3)); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Take(); abi.CodeOf(err) != abi.ErrOwnershipChanged {
			t.Errorf("it took what is newer: %v", err)
		}
		b.silo.dropLate(id("a0000"), epoch(1))
		if sleepy.act.Hibernate("idle"); true {
			synctest.Wait()
		}
		b.silo.Revoke(old.lease)
		b.silo.Revoke(sleepy.lease)
		synctest.Wait()
		if n := b.store.Stats().Sleepers; n != 2 {
			t.Fatalf("%d sleep", n)
		}
		w.woken = map[uint64]bool{} // the other world has serials of its own
		b.at(epoch(3))
		b.want(id("a0000"), "add", "2")
		b.want(id("a0001"), "add", "2")
	})
}

// A state that is damaged where it slept is told once to who asks for it, on the node that it has moved to.
func TestADamagedStateIsToldWhereItMoved(t *testing.T) {
	w := newWorld(t)
	n := newStore()
	a := w.place(func(c *Config, _ *Kind) { c.Sleepers = n }, sleep.Config{})
	defer a.close()
	a.want(id("a"), "add", "1")
	a.want(id("b"), "add", "1")
	if err := a.silo.Surrender(t.Context(), cluster.Part{}); err != nil {
		t.Fatal(err)
	}
	n.damaged[id("a")] = true
	chunks, m := a.export(cluster.Part{}, 1<<20)
	b := w.place(nil, sleep.Config{})
	defer b.close()
	if err := b.silo.Import(1, cluster.Part{}, chunks[0]); err != nil || m.Actors != 2 {
		t.Fatal(err, m)
	}
	if err := b.silo.Accept(1, epoch(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.call(id("a"), "add", ""); abi.CodeOf(err) != abi.ErrStateUnusable || !strings.Contains(err.Error(), "the checksum is wrong") {
		t.Error(err)
	}
	b.want(id("a"), "add", "1")
	b.want(id("b"), "add", "2")
}

// brimful is a store that has no room for more.
type brimful struct{ *sleep.Store }

func (brimful) Put(uint16, *sleep.Sleeper) error { return sleep.ErrFull }

// A state that is damaged while it waits for the node to own it is told too, also where there is no room for another sleeper.
func TestAStateThatIsDamagedInAStageIsTold(t *testing.T) {
	w := newWorld(t)
	a, chunks, _ := asleep(t, w, 1, 1<<20)
	defer a.close()
	dir := t.TempDir()
	b := w.place(func(c *Config, _ *Kind) { c.Sleepers = brimful{c.Sleepers.(*sleep.Store)} }, sleep.Config{Dir: dir})
	defer b.close()
	if err := b.silo.Import(1, cluster.Part{}, chunks[0]); err != nil {
		t.Fatal(err)
	}
	b.store.Spill(0)
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 1 {
		t.Fatal(files)
	}
	spilled, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	spilled[len(bytes.TrimRight(spilled, "\x00"))-1] ^= 1 // of the state, which is last
	if err := os.WriteFile(files[0], spilled, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.silo.Accept(1, epoch(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.call(id("a0000"), "add", ""); abi.CodeOf(err) != abi.ErrStateUnusable {
		t.Error(err)
	}
	b.want(id("a0000"), "add", "1")
}

// Whatever comes as a chunk, it is refused with one of the errors there are, or what was imported is exported as it came.
func FuzzImport(f *testing.F) {
	a, chunks, _ := asleep(f, newWorld(f), 3, 1<<20)
	a.close()
	f.Add(chunks[0])
	f.Add((&chunkWriter{}).empty())
	f.Add([]byte("wsm\x02"))
	f.Add([]byte("wsm\x03"))
	timed := slices.Clone(chunks[0])
	timed[3] = chunkTimed
	f.Add(timed)
	w := newWorld(f)
	b := w.place(nil, sleep.Config{})
	f.Cleanup(b.close)
	f.Fuzz(func(t *testing.T, in []byte) {
		summed := slices.Clone(in) // a fuzz target must not change its input
		if len(summed) >= chunkHead {
			resum(summed)
		}
		for _, chunk := range [][]byte{in, summed, summed} {
			err := b.silo.Import(1, cluster.Part{}, chunk)
			m, _ := b.silo.Staged(1)
			switch {
			case err == nil:
				if err := b.silo.Accept(1, m.Newest); err != nil {
					t.Fatal(err)
				}
				var foreign int
				got, err := b.silo.Export(t.Context(), cluster.Part{}, 100, func(c []byte) error {
					_, _, err := readChunk(c)
					foreign++
					return err
				})
				if err != nil || got.Actors != m.Actors || got.Bytes != m.Bytes {
					t.Errorf("%v came, %v left, %v", m, got, err)
				}
				for kind := range b.silo.states.keptKinds() {
					b.store.DropKind(kind, nil)
				}
			case !errors.Is(err, cluster.ErrChunkDamaged) && !errors.Is(err, cluster.ErrChunkVersion) && !errors.Is(err, cluster.ErrChunkForeign):
				t.Fatal(err)
			case m != (cluster.Manifest{}):
				t.Errorf("%v is staged of what was refused", m)
			}
			b.silo.Reject(1)
		}
	})
}
