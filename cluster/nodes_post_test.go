package cluster

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// recorder notes what an actor gets, over all nodes.
type recorder struct {
	mu  sync.Mutex
	got []byte
}

func record(w *world) *recorder {
	r := &recorder{}
	for _, c := range w.nodes {
		c.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.got = append(r.got, e.Payload[0])
			return e.Payload, nil
		}
	}
	return r
}

func (r *recorder) seen() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(r.got)
}

func numbered(who Identity, i byte) *abi.Envelope {
	return &abi.Envelope{Target: who, Method: "get", Payload: []byte{i}, Flags: abi.OneWay}
}

// Messages that another node refuses after they were posted go where the actor is, in order, whether anybody awaits them
// or not.
func TestPostsFollowTheActor(t *testing.T) {
	for _, awaited := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 3)
			n1, n2 := w.node(1), w.node(2)
			got := record(w)
			n1.sees(member(1), member(2))
			w.node(3).sees(member(2), member(3))
			n2.sees(member(2), member(3))
			who := movedActor(n1, n2, "counter", "n2", "n3")
			answers := make(chan error, 16)
			done := func(_ []byte, err error) { answers <- err }
			if !awaited {
				done = nil
			}
			begin := time.Now()
			for i := range byte(6) {
				if err := n1.API().Post(numbered(who, i), done); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait() // all are refused, and n1 has not heard of n3 yet
			if err := n1.API().Post(numbered(who, 6), done); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(2*time.Second, func() { n1.sees(member(1), member(2), member(3)); n1.knows("n3", "counter", "bank") })
			e := numbered(who, 7)
			e.Flags = 0
			if _, err := n1.API().Send(t.Context(), e); err != nil {
				t.Error(err)
			}
			if time.Since(begin) != 2*time.Second {
				t.Errorf("after %s", time.Since(begin))
			}
			synctest.Wait()
			if got.seen() != "[0 1 2 3 4 5 6 7]" {
				t.Errorf("delivered %s", got.seen())
			}
			for range len(answers) {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			if r := n1.Runtime(); len(r.mail) != 0 || r.couriers.Load() != 0 || r.isCarried(r.cache.hash(who)) {
				t.Errorf("%d couriers are left", r.couriers.Load())
			}
		})
	}
}

// Messages that come back in any order, and with others in between, are sent again in the order in which they were posted.
func TestPostsThatComeBackAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		n1, n2 := w.node(1), w.node(2)
		got := record(w)
		who := owned(n1.Runtime().View(), "counter", "n2")
		post := func(i byte) {
			if err := n1.API().Post(numbered(who, i), nil); err != nil {
				t.Fatal(err)
			}
		}
		stuck := make(chan struct{})
		n2.put(func() { <-stuck })
		for i := range byte(4) {
			post(i)
		}
		w.mu.Lock()
		var under []*crossing
		for x := range w.calls {
			under = append(under, x)
		}
		w.mu.Unlock()
		w.breaks(func(_, to NodeID, _ *abi.Envelope) error { return unreachable(Node{ID: to}) })
		for i, x := range under {
			x.cut()
			synctest.Wait()
			post(byte(4 + i))
		}
		time.Sleep(100 * time.Millisecond)
		w.breaks(nil)
		close(stuck)
		time.Sleep(time.Second)
		synctest.Wait()
		if got.seen() != "[0 1 2 3 4 5 6 7]" {
			t.Errorf("delivered %s", got.seen())
		}
	})
}

// Messages for a node that is lost and not replaced end in time, each in its own; nothing is said to be done.
func TestPostsToALostNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		n1 := w.node(1)
		who := owned(n1.Runtime().View(), "counter", "n2")
		n1.ok(who.Key())
		w.kill(w.node(2))
		begin := time.Now()
		type end struct {
			err error
			at  time.Duration
		}
		ends := make(chan end, 4)
		for i := range 3 {
			e := env(who.Key())
			e.Deadline = begin.Add(time.Duration(3-i) * time.Second)
			if err := n1.API().Post(e, func(_ []byte, err error) { ends <- end{err, time.Since(begin)} }); err != nil {
				t.Fatal(err)
			}
		}
		e := env(who.Key())
		e.Deadline = begin.Add(time.Second)
		if err := n1.API().Post(e, nil); err != nil {
			t.Fatal(err)
		}
		var re *RequestError
		for i := range 3 {
			got := <-ends
			if abi.CodeOf(got.err) != abi.ErrUnreachable || !errors.As(got.err, &re) || got.at != time.Duration(i+1)*time.Second ||
				!strings.Contains(got.err.Error(), "nothing was done") {
				t.Errorf("after %s: %v", got.at, got.err)
			}
		}
		// A request behind them learns why it waited.
		if err := n1.API().Post(env(who.Key()), nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err := n1.API().Request(t.Context(), who, Message{Method: "get", Timeout: time.Second})
		if abi.CodeOf(err) != abi.ErrUnreachable {
			t.Errorf("%v", err)
		}
		// Others are not in their way.
		n1.ok(owned(n1.Runtime().View(), "bank", "n1").Key())
		time.Sleep(abi.DefaultRequest)
		synctest.Wait()
		if r := n1.Runtime(); r.couriers.Load() != 0 || r.lost.Load() != 2 || !strings.Contains(n1.log.String(), "a message was lost") {
			t.Errorf("%d couriers, %d lost", r.couriers.Load(), r.lost.Load())
		}
	})
}

// Outcomes that are final come through: an answer, an error of the actor's, and one that is not known.
func TestPostsEndWhereTheyShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		n1, n2 := w.node(1), w.node(2)
		who := owned(n1.Runtime().View(), "counter", "n2")
		var fails int
		var code abi.Code
		n2.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
			if fails > 0 {
				fails--
				return nil, abi.NewError(code, "no")
			}
			return e.Payload, nil
		}
		post := func(flags abi.Flags) error {
			done := make(chan error, 2)
			e := env(who.Key())
			e.Flags = flags
			if err := n1.API().Post(e, func(_ []byte, err error) { done <- err }); err != nil {
				return err
			}
			err := <-done
			if len(done) > 0 {
				t.Error("done was called twice")
			}
			return err
		}
		for _, c := range []struct {
			code  abi.Code
			flags abi.Flags
			again bool
		}{
			{abi.ErrActor, 0, false}, {abi.ErrMailboxFull, 0, false}, {abi.ErrOverloaded, 0, false}, {abi.ErrOutcomeUnknown, 0, false},
			{abi.ErrOutcomeUnknown, abi.Idempotent, true}, {abi.ErrOwnershipChanged, 0, true}, {abi.ErrNotReady, 0, true},
			{abi.ErrShuttingDown, 0, true}, {abi.ErrUnreachable, 0, true}, {abi.ErrNoQuorum, 0, true},
		} {
			fails, code = 3, c.code
			err := post(c.flags)
			switch {
			case c.again && (err != nil || fails != 0), !c.again && (abi.CodeOf(err) != c.code || fails != 2):
				t.Errorf("%v, flags %v: %v, %d fewer failures", c.code, c.flags, err, 3-fails)
			}
			fails = 0
		}
		// The end of this node ends what waits.
		fails, code = 1<<30, abi.ErrNotReady
		done := make(chan error, 1)
		if err := n1.API().Post(env(who.Key()), func(_ []byte, err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := n1.stop(); err != nil {
			t.Error(err)
		}
		if err := <-done; abi.CodeOf(err) != abi.ErrShuttingDown {
			t.Errorf("a post that waits for another node when this one leaves: %v", err)
		}
	})
}

// However many actors a lost node had, the goroutines that wait for it are bounded.
func TestCouriersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		n1 := w.node(1)
		n1.sees(member(2))
		w.kill(w.node(2))
		refused := 0
		n1.Runtime().maxCouriers = 500
		for i := range 600 {
			e := env(fmt.Sprintf("counter/%d", i))
			e.Deadline = time.Now().Add(time.Second)
			if err := n1.API().Post(e, nil); abi.CodeOf(err) == abi.ErrOverloaded {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused != 100 {
			t.Errorf("%d were refused", refused)
		}
		time.Sleep(2 * time.Second)
		if n := n1.Runtime().couriers.Load(); n != 0 {
			t.Errorf("%d couriers are left", n)
		}
	})
}
