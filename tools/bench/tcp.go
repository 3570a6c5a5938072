package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"sync"
)

// The floors' frames: 4 bytes of length, 4 of the caller, the payload.
const frameHead = 8

// echoFrames sends every frame back. What has come at once is answered at once.
func echoFrames(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriterSize(c, 64<<10)
			for {
				frame := make([]byte, frameHead+payloadSize) // each request its own memory, as a server has it
				if _, err := io.ReadFull(r, frame); err != nil {
					return
				}
				_, _ = w.Write(frame)
				if r.Buffered() < len(frame) {
					_ = w.Flush()
				}
			}
		}()
	}
}

func appendFrame(b []byte, caller int, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(binary.BigEndian.AppendUint32(b, uint32(caller)), payload...)
}

// blocking is a connection for each caller, which waits in its read.
type blocking []net.Conn

func dialBlocking(ctx context.Context, addr string, callers int) (blocking, error) {
	conns := make(blocking, 0, callers)
	for range callers {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			conns.close()
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func (b blocking) call(caller int, payload []byte) error {
	buf := appendFrame(make([]byte, 0, frameHead+payloadSize), caller, payload)
	if _, err := b[caller].Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(b[caller], buf)
	return err
}

func (b blocking) close() {
	for _, c := range b {
		c.Close()
	}
}

// pipelined is one connection for many callers: a goroutine writes what has accumulated, another reads.
type pipelined struct {
	conn    net.Conn
	mu      sync.Mutex
	w       *bufio.Writer
	wake    chan struct{}
	stop    chan struct{}
	waiting []chan []byte
}

func dialPipelined(ctx context.Context, addr string, callers int) (*pipelined, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &pipelined{conn: conn, w: bufio.NewWriterSize(conn, 64<<10), wake: make(chan struct{}, 1), stop: make(chan struct{}),
		waiting: make([]chan []byte, callers)}
	for i := range p.waiting {
		p.waiting[i] = make(chan []byte, 1)
	}
	go p.read()
	go p.flush()
	return p, nil
}

func (p *pipelined) call(caller int, payload []byte) {
	var buf [frameHead + payloadSize]byte
	p.mu.Lock()
	_, _ = p.w.Write(appendFrame(buf[:0], caller, payload))
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	<-p.waiting[caller]
}

func (p *pipelined) flush() {
	for {
		select {
		case <-p.wake:
			runtime.Gosched() // others may have something, too
			p.mu.Lock()
			_ = p.w.Flush()
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

func (p *pipelined) read() {
	r := bufio.NewReaderSize(p.conn, 64<<10)
	var head [frameHead]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		p.waiting[binary.BigEndian.Uint32(head[4:])] <- payload
	}
}

func (p *pipelined) close() {
	close(p.stop)
	p.conn.Close()
}
