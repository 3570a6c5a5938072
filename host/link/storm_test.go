package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// storm is a cluster whose nodes come and go while everybody calls everybody.
type storm struct {
	w       *world
	handled sync.Map // the number of a call → how often a handler took it
	calls   atomic.Uint64
	codes   [64]atomic.Uint64
	places  []*place
}

// place is an id and an address; the runs of its node follow one another.
type place struct {
	id   cluster.NodeID
	door *door

	mu     sync.RWMutex // held for writing while the node is exchanged
	boot   uint64
	node   *node
	served chan error
}

func (p *place) addr() string { return p.door.ln.Addr().String() }

// door is a port that the runs of a node listen on, one after the other. It stays open between them, where whoever connects is hung up on:
// nobody else gets the port.
type door struct {
	ln  net.Listener
	mu  sync.Mutex
	run *doorway // nil: nobody is in
}

// doorway is the listener of one run.
type doorway struct {
	door  *door
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (d *door) serve() {
	for {
		c, err := d.ln.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		run := d.run
		d.mu.Unlock()
		if run == nil {
			c.Close()
			continue
		}
		select {
		case run.conns <- c:
		case <-run.done:
			c.Close()
		}
	}
}

func (d *door) open() net.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run = &doorway{door: d, conns: make(chan net.Conn), done: make(chan struct{})}
	return d.run
}

func (r *doorway) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.done:
		return nil, net.ErrClosed
	}
}

func (r *doorway) Close() error {
	r.once.Do(func() {
		close(r.done)
		r.door.mu.Lock()
		defer r.door.mu.Unlock()
		if r.door.run == r {
			r.door.run = nil
		}
	})
	return nil
}

func (r *doorway) Addr() net.Addr { return r.door.ln.Addr() }

func (s *storm) start(p *place) {
	ln := p.door.open()
	p.boot++
	p.node = s.w.silent(p.id, p.addr(), func(c *Config) {
		c.Self.Boot, c.Keepalive, c.DialTimeout = p.boot, 50*time.Millisecond, time.Second
		c.Handler = handlerFunc(s.handle)
		c.OnKinds, c.OnIncident = nil, nil
		c.Services = map[string]Service{"echo": func(_ context.Context, _ cluster.NodeID, b []byte) ([]byte, error) {
			s.handle(&abi.Envelope{Payload: b}, "", func([]byte, error) {})
			return b, nil
		}}
	})
	p.served = make(chan error, 1)
	served, n := p.served, p.node
	go func() { served <- n.Serve(ln) }()
}

// stop ends a run: in good order, or at once.
func (s *storm) stop(p *place, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.node.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.w.t.Error(err)
	}
	if err := <-p.served; err != nil {
		s.w.t.Error(err)
	}
}

func (s *storm) handle(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
	n, _ := s.handled.LoadOrStore(binary.BigEndian.Uint64(env.Payload), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	if env.Payload[8]%4 == 0 {
		go done(env.Payload, nil)
		return
	}
	done(env.Payload, nil)
}

// check compares what a caller was told with what happened. It is called when nothing is under way.
func (s *storm) check(number uint64, err error) {
	times := int64(0)
	if n, ok := s.handled.Load(number); ok {
		times = n.(*atomic.Int64).Load()
	}
	code := abi.CodeOf(err)
	s.codes[code].Add(1)
	want := "at most once"
	ok := times <= 1
	switch code {
	case abi.ErrNone:
		want, ok = "once", times == 1
	case abi.ErrUnreachable, abi.ErrShuttingDown, abi.ErrOverloaded:
		want, ok = "never", times == 0
	case abi.ErrOutcomeUnknown, abi.ErrTimeout, abi.ErrCanceled:
	default:
		ok = false
	}
	if !ok {
		s.w.t.Errorf("call %d was handled %d times and should be %s: %v", number, times, want, err)
	}
}

type outcome struct {
	number uint64
	err    error
}

// act does something at a place, and returns the calls it made with what became of them.
func (s *storm) act(rnd *rand.Rand, from *place) (out []outcome) {
	from.mu.RLock()
	defer from.mu.RUnlock()
	to := s.places[rnd.IntN(len(s.places))]
	if to == from {
		return nil
	}
	there := cluster.Node{ID: to.id, Authority: to.addr()}
	payload := func() (uint64, []byte) {
		n := s.calls.Add(1)
		b := binary.BigEndian.AppendUint64(make([]byte, 0, 9), n)
		return n, append(append(b, byte(rnd.Uint32())), make([]byte, rnd.IntN(2000))...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rnd.IntN(3000))*time.Millisecond)
	defer cancel()
	switch rnd.IntN(12) {
	case 0:
		if p, err := from.node.Probe(ctx, to.addr(), to.id); err == nil && p.ID != to.id {
			s.w.t.Errorf("%+v", p)
		}
	case 1:
		if err := from.node.SetKinds([]string{fmt.Sprint("kind", rnd.IntN(100))}); err != nil {
			s.w.t.Error(err)
		}
	case 2:
		var members []cluster.Node
		for _, p := range s.places {
			if rnd.IntN(3) > 0 {
				members = append(members, cluster.Node{ID: p.id, Authority: p.addr()})
			}
		}
		from.node.SetMembers(members)
	case 3:
		for _, w := range from.node.wires(true) {
			if rnd.IntN(8) == 0 {
				w.close(errLost)
			}
		}
	case 4:
		n, b := payload()
		_, err := from.node.Ask(ctx, there, "echo", b)
		out = append(out, outcome{n, err})
	case 5:
		target := must(from.node.Target(there))
		told := make(chan outcome, 20)
		for range cap(told) {
			n, b := payload()
			env := message("counter/a", b)
			env.Deadline = time.Now().Add(time.Duration(rnd.IntN(500)) * time.Millisecond)
			if err := target.Post(env, func(_ []byte, err error) { told <- outcome{n, err} }); err != nil {
				told <- outcome{n, err}
			}
		}
		for range cap(told) {
			out = append(out, <-told)
		}
	default:
		n, b := payload()
		reply, err := must(from.node.Target(there)).Deliver(ctx, message("counter/a", b))
		if err == nil && string(reply) != string(b) {
			s.w.t.Errorf("call %d got the reply of another", n)
		}
		out = append(out, outcome{n, err})
	}
	return out
}

// TestStorm: whatever comes and goes, each call ends once, and what its caller is told about it is true.
func TestStorm(t *testing.T) {
	s := &storm{w: newWorld(t)}
	for n := range 4 {
		p := &place{id: cluster.NodeID(fmt.Sprint("n", n)), door: &door{ln: s.w.listener()}}
		var ended sync.WaitGroup
		ended.Go(p.door.serve)
		t.Cleanup(func() {
			p.door.ln.Close()
			ended.Wait()
		})
		s.start(p)
		s.places = append(s.places, p)
	}
	steps := 150
	if testing.Short() {
		steps = 60
	}
	var callers, chaos sync.WaitGroup
	results := make(chan []outcome, 1000)
	for n := range 12 {
		callers.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(n)))
			for range steps {
				results <- s.act(rnd, s.places[n%len(s.places)])
			}
		})
	}
	stop := make(chan struct{})
	chaos.Go(func() {
		rnd := rand.New(rand.NewPCG(8, 8))
		for pace := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-pace.C:
			case <-stop:
				pace.Stop()
				return
			}
			p := s.places[rnd.IntN(len(s.places))]
			p.mu.Lock() // calls of this node have ended; those of others to it have not
			s.stop(p, time.Duration(rnd.IntN(2))*100*time.Millisecond)
			s.start(p)
			p.mu.Unlock()
		}
	})
	go func() {
		callers.Wait()
		close(stop)
		chaos.Wait()
		close(results)
	}()
	var all []outcome
	for r := range results {
		all = append(all, r...)
	}
	// What is left works: each reaches each other again, however long the back-off of its last attempts.
	for _, from := range s.places {
		for _, to := range s.places {
			for err := error(nil); from != to; {
				n := s.calls.Add(1)
				env := message("counter/a", append(binary.BigEndian.AppendUint64(nil, n), 1))
				_, err = must(from.node.Target(cluster.Node{ID: to.id, Authority: to.addr()})).Deliver(t.Context(), env)
				if all = append(all, outcome{n, err}); err == nil {
					break
				}
			}
		}
	}
	for _, p := range s.places {
		s.stop(p, hang)
	}
	for _, o := range all {
		s.check(o.number, o.err)
	}
	for code := range s.codes {
		if n := s.codes[code].Load(); n > 0 {
			t.Logf("%v: %d", abi.Code(code), n)
		}
	}
}
