//go:build unix

package link

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

// BenchmarkRequest measures a request of 64 bytes and its reply between two processes over loopback, beside the least that Go
// needs for it without TLS and without an envelope: frames pipelined over one connection, and a connection for each caller that
// waits in its read. "cpu-µs/op" is that of both processes.
func BenchmarkRequest(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		for _, c := range []struct {
			name string
			run  func(*testing.B, int)
		}{{"pipelined TCP", benchPipelined}, {"blocking TCP", benchBlocking}, {"link", benchLink}} {
			if c.name == "blocking TCP" && callers > 64 {
				continue
			}
			b.Run(fmt.Sprintf("%s/callers=%d", c.name, callers), func(b *testing.B) { c.run(b, callers) })
		}
	}
}

const benchPayload = 64

func benchLink(b *testing.B, callers int) {
	w := newWorld(b)
	dir := b.TempDir() + "/ca"
	w.authority = must(ca.Init(dir, ca.Options{}))
	other := startProcess(b, "link", dir)
	a := w.node("a")
	target := must(a.Target(cluster.Node{ID: "b", Authority: other.addr}))
	id := identity("counter/a")
	payload := make([]byte, benchPayload)
	spread(b, other, callers, func(int) error {
		_, err := target.Deliver(context.Background(), &abi.Envelope{Target: id, Method: "add", Payload: payload, Deadline: time.Now().Add(10 * time.Second)})
		return err
	})
}

// spread shares b.N calls among callers.
func spread(b *testing.B, other *process, callers int, call func(caller int) error) {
	b.Helper()
	if err := call(0); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	samples := make([][]time.Duration, callers)
	b.ReportAllocs()
	before := cpuTime() + other.cpu(b)
	b.ResetTimer()
	for caller := range callers {
		wg.Go(func() {
			for n := 0; left.Add(-1) >= 0; n++ {
				var began time.Time
				if n%16 == 0 {
					began = time.Now()
				}
				if err := call(caller); err != nil {
					b.Error(err)
					return
				}
				if n%16 == 0 {
					samples[caller] = append(samples[caller], time.Since(began))
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	used := cpuTime() + other.cpu(b) - before
	b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
	if all := slices.Concat(samples...); len(all) > 0 {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, "p50-µs")
	}
}

// The floors' protocol: 4 bytes of length, 4 of the caller, the payload.
const floorFrame = 8 + benchPayload

// otherFloor echoes.
func otherFloor() (stop func(), addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
				buf := make([]byte, floorFrame)
				for {
					if _, err := io.ReadFull(r, buf); err != nil {
						return
					}
					_, _ = w.Write(append([]byte(nil), buf...)) // each request its own memory, as a server has it
					if r.Buffered() < len(buf) {
						_ = w.Flush()
					}
				}
			}()
		}
	}()
	return func() { ln.Close() }, ln.Addr().String(), nil
}

func appendFloor(b []byte, caller int, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(binary.BigEndian.AppendUint32(b, uint32(caller)), payload...)
}

func benchBlocking(b *testing.B, callers int) {
	other := startProcess(b, "floor", "")
	conns := make([]net.Conn, callers)
	for i := range conns {
		conns[i] = must(net.Dial("tcp", other.addr))
		defer conns[i].Close()
	}
	payload := make([]byte, benchPayload)
	spread(b, other, callers, func(caller int) error {
		buf := appendFloor(make([]byte, 0, floorFrame), caller, payload)
		if _, err := conns[caller].Write(buf); err != nil {
			return err
		}
		_, err := io.ReadFull(conns[caller], buf)
		return err
	})
}

func benchPipelined(b *testing.B, callers int) {
	other := startProcess(b, "floor", "")
	conn := must(net.Dial("tcp", other.addr))
	f := &floor{w: bufio.NewWriterSize(conn, 64<<10), wake: make(chan struct{}, 1), waiting: make([]chan []byte, callers)}
	for i := range f.waiting {
		f.waiting[i] = make(chan []byte, 1)
	}
	stop := make(chan struct{})
	var ends sync.WaitGroup
	ends.Go(func() { f.read(conn) })
	ends.Go(func() { f.flush(stop) })
	defer ends.Wait()
	defer close(stop)
	defer conn.Close()
	payload := make([]byte, benchPayload)
	spread(b, other, callers, func(caller int) error {
		f.call(caller, payload)
		return nil
	})
}

// floor is one connection for many callers: a goroutine writes what has accumulated, another reads.
type floor struct {
	mu      sync.Mutex
	w       *bufio.Writer
	wake    chan struct{}
	waiting []chan []byte
}

func (f *floor) call(caller int, payload []byte) []byte {
	var buf [floorFrame]byte
	f.mu.Lock()
	_, _ = f.w.Write(appendFloor(buf[:0], caller, payload))
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return <-f.waiting[caller]
}

func (f *floor) flush(stop chan struct{}) {
	for {
		select {
		case <-f.wake:
			runtime.Gosched()
			f.mu.Lock()
			_ = f.w.Flush()
			f.mu.Unlock()
		case <-stop:
			return
		}
	}
}

func (f *floor) read(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		f.waiting[binary.BigEndian.Uint32(head[4:])] <- payload
	}
}

// BenchmarkProbe measures what it takes to find out who is at an address: connection, mutual TLS, hellos. Every new connection
// costs as much.
func BenchmarkProbe(b *testing.B) {
	w := newWorld(b)
	a, other := w.node("a"), w.node("b")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Probe(b.Context(), other.self.Authority, "b"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAsk measures a question to a service and its answer, both nodes in this process.
func BenchmarkAsk(b *testing.B) {
	w := newWorld(b)
	a := w.node("a")
	other := w.node("b", services(map[string]Service{
		"echo": func(_ context.Context, _ cluster.NodeID, payload []byte) ([]byte, error) { return payload, nil },
	}))
	payload := make([]byte, benchPayload)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Ask(b.Context(), other.self, "echo", payload); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
