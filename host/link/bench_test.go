package link

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// BenchmarkRequest measures a request of 64 bytes and its reply over loopback, both ends in this process, beside the least that
// Go needs for it: frames pipelined over one plain TCP connection. "cpu-µs/op" counts both ends.
func BenchmarkRequest(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("floor/callers=%d", callers), func(b *testing.B) { benchFloor(b, callers) })
		b.Run(fmt.Sprintf("link/callers=%d", callers), func(b *testing.B) { benchLink(b, callers, false) })
		b.Run(fmt.Sprintf("link-async/callers=%d", callers), func(b *testing.B) { benchLink(b, callers, true) })
	}
}

func benchLink(b *testing.B, callers int, async bool) {
	w := newWorld(b)
	h := handlerFunc(echo)
	if async {
		h = func(env *abi.Envelope, from cluster.NodeID, done func([]byte, error)) { go echo(env, from, done) }
	}
	a := w.node("a")
	target := w.target(a, w.node("b", func(c *Config) { c.Handler = h }))
	id := identity("counter/a")
	payload := make([]byte, 64)
	call := func() error {
		_, err := target.Deliver(context.Background(), &abi.Envelope{Target: id, Method: "add", Payload: payload, Deadline: time.Now().Add(10 * time.Second)})
		return err
	}
	if err := call(); err != nil {
		b.Fatal(err)
	}
	spread(b, callers, call)
}

// spread shares b.N calls among callers and reports the CPU time of one.
func spread(b *testing.B, callers int, call func() error) {
	b.Helper()
	runtime.GC()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	before := cpuTime()
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchFloor is a plain pipelined protocol: 4 bytes of length, 4 of id, the payload.
func benchFloor(b *testing.B, callers int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	var ends sync.WaitGroup
	defer ends.Wait()
	ends.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
		buf := make([]byte, 8+64)
		for {
			if _, err := io.ReadFull(r, buf); err != nil {
				return
			}
			_, _ = w.Write(buf)
			if r.Buffered() < len(buf) {
				_ = w.Flush()
			}
		}
	})
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	f := &floor{w: bufio.NewWriterSize(conn, 64<<10), wake: make(chan struct{}, 1), waiting: make([]chan []byte, callers)}
	for i := range f.waiting {
		f.waiting[i] = make(chan []byte, 1)
	}
	ends.Go(func() { f.read(conn) })
	stop := make(chan struct{})
	defer close(stop)
	ends.Go(func() { f.flush(stop) })
	var next atomic.Int32
	local := sync.Pool{New: func() any { return next.Add(1) - 1 }}
	ids := make(chan int32, callers)
	for range callers {
		ids <- local.New().(int32)
	}
	payload := make([]byte, 64)
	spread(b, callers, func() error {
		id := <-ids
		f.call(uint32(id), payload)
		ids <- id
		return nil
	})
}

type floor struct {
	mu      sync.Mutex
	w       *bufio.Writer
	wake    chan struct{}
	waiting []chan []byte
}

func (f *floor) call(id uint32, payload []byte) []byte {
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(payload)))
	binary.BigEndian.PutUint32(head[4:], id)
	f.mu.Lock()
	_, _ = f.w.Write(head[:])
	_, _ = f.w.Write(payload)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return <-f.waiting[id]
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
