package link

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

// raw is an end of a connection that a test speaks for itself: it may say anything.
type raw struct {
	t    testing.TB
	tcp  net.Conn
	conn *tls.Conn
	in   frameReader
}

// dial connects to a node with the certificate of id.
func (w *world) dial(to *node, id cluster.NodeID) *raw {
	w.t.Helper()
	tcp := w.connect(to.self.Authority)
	w.t.Cleanup(func() { tcp.Close() })
	creds := must(w.authority.Credentials(ca.ID{Cluster: w.cluster, Node: string(id)}))
	r := &raw{t: w.t, tcp: tcp, conn: tls.Client(tcp, creds.Client(ca.ID{Cluster: to.cluster, Node: string(to.self.ID)}))}
	r.in = frameReader{src: r.conn, max: 64 << 20}
	if err := r.conn.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// listen serves one connection after another with the certificate of id, each by serve.
func (w *world) listen(id cluster.NodeID, serve func(*raw)) cluster.Node {
	w.t.Helper()
	ln := w.listener()
	creds := must(w.authority.Credentials(ca.ID{Cluster: w.cluster, Node: string(id)}))
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			tcp, err := ln.Accept()
			if err != nil {
				return
			}
			r := &raw{t: w.t, tcp: tcp, conn: tls.Server(tcp, creds.Server())}
			r.in = frameReader{src: r.conn, max: 64 << 20}
			if r.conn.Handshake() == nil {
				serve(r)
			}
			tcp.Close()
		}
	})
	w.t.Cleanup(func() {
		ln.Close()
		ended.Wait()
	})
	return cluster.Node{ID: id, Authority: ln.Addr().String(), Boot: 1}
}

func (r *raw) send(b []byte) {
	_, _ = r.conn.Write(b) // the other end may have hung up: what it said tells
}

// next returns the next frame, or what the connection ended with.
func (r *raw) next() (number uint64, items int, rd *abi.Reader, err error) {
	for {
		body, err := r.in.buffered()
		if err != nil {
			return 0, 0, nil, err
		}
		if body != nil {
			head, number, items, err := frameHead(append([]byte(nil), body...))
			return number, items, &head, err
		}
		if err := r.in.fill(); err != nil {
			return 0, 0, nil, err
		}
	}
}

// until returns the next frame of one number, past all others.
func (r *raw) until(want uint64) *abi.Reader {
	r.t.Helper()
	for {
		number, _, rd, err := r.next()
		if err != nil {
			r.t.Fatalf("waiting for frame %d: %v", want, err)
		}
		if number == want {
			return rd
		}
	}
}

// refusal reads until the connection ends, and returns the refusal that came before the end, or none.
func (r *raw) refusal() *Refusal {
	r.t.Helper()
	_ = r.tcp.SetReadDeadline(time.Now().Add(hang))
	var said *Refusal
	for {
		number, items, rd, err := r.next()
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			r.t.Fatal("the connection was not ended")
		case err != nil:
			return said
		case number == frameRefusal:
			said, _ = readRefusal(rd, items)
		}
	}
}

// ended waits until the other end has hung up.
func (r *raw) ended() {
	_ = r.tcp.SetReadDeadline(time.Now().Add(hang))
	if _, err := io.Copy(io.Discard, r.conn); err != nil && strings.Contains(err.Error(), "timeout") {
		r.t.Error("the connection was not ended")
	}
}

func rawHello(w *world, id cluster.NodeID) *hello {
	return &hello{min: 1, max: 1, cluster: w.cluster, node: id, boot: 1, authority: "127.0.0.1:1", maxFrame: 1 << 20, maxInFlight: 100}
}

// meet exchanges hellos, and waits until r is admitted: the first frame then says kinds.
func (r *raw) meet(w *world, id cluster.NodeID) *raw {
	r.t.Helper()
	r.send(appendHello(nil, rawHello(w, id)))
	r.until(frameHello)
	r.until(frameKinds)
	return r
}

// answer is what the other side of meet says: a hello that admits whoever dialled.
func (r *raw) answer(w *world, id cluster.NodeID) {
	r.until(frameHello)
	h := rawHello(w, id)
	h.version = 1
	r.send(appendHello(nil, h))
}

// request is a request's frame.
func request(id uint64, env *abi.Envelope) []byte {
	b := abi.AppendUint(openFrame(nil, 3, frameRequest), id)
	return sealFrame(abi.AppendEnvelope(b, env, time.Now()), 0)
}

// expect waits for an incident of one of the reasons.
func (n *node) expect(t testing.TB, reasons ...Reason) Incident {
	t.Helper()
	limit := time.After(hang)
	for {
		select {
		case i := <-n.incidents:
			if slices.Contains(reasons, i.Reason) {
				return i
			}
			t.Errorf("an incident of another kind: %+v", i)
		case <-limit:
			t.Fatalf("no incident of %v; the log:\n%s", reasons, n.log)
		}
	}
}
