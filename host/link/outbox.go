package link

import (
	"runtime"
	"sync"
)

// outbox batches what is written to one connection. Whoever has a frame appends it under the lock; whoever finds nobody
// writing claims the right to, and writes what has accumulated: one system call then carries the frames of all who came while the
// one before was under way. A claim is never held across a wait: what the network does not take at once goes to the
// connection's writer, the one goroutine that may wait.
type outbox struct {
	mu     sync.Mutex
	buf    []byte // whole frames that nobody has taken yet
	spare  []byte
	busy   bool // somebody has claimed, or the writer has been woken
	corked bool // the reader is at work on a batch, and will write when it is through
	closed bool // nothing is written any more
	final  bool // close once everything is written
	// farewell: a goaway was sent; when nothing is under way any more, the connection has no purpose.
	farewell bool
	taken    uint64 // bytes taken from buf since the beginning: these may have been sent
	wake     chan struct{}
	room     chan struct{} // told, if somebody waits, when buf has been taken
}

func (o *outbox) init() {
	o.wake = make(chan struct{}, 1)
	o.room = make(chan struct{}, 1)
}

// position is where the next frame begins in the stream.
func (o *outbox) position() uint64 { return o.taken + uint64(len(o.buf)) }

// claim asks for the right to write after something was appended. o.mu is held.
func (o *outbox) claim() bool {
	if o.busy || o.corked || o.closed {
		return false
	}
	o.busy = true
	return true
}

// kick wakes the writer, to which the caller hands its claim.
func (o *outbox) kick() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take takes the batch. o.mu is held.
func (o *outbox) take() []byte {
	batch := o.buf
	o.buf, o.spare = o.spare[:0], nil
	o.taken += uint64(len(batch))
	select {
	case o.room <- struct{}{}:
	default:
	}
	return batch
}

// give returns a batch's buffer. o.mu is held.
func (o *outbox) give(batch []byte) {
	if cap(batch) <= keepBuffer {
		o.spare = batch[:0]
	}
}

// yieldAt is how many messages must be under way for whoever writes to let others add theirs first. Below it, waiting would only
// delay the one there is.
const yieldAt = 8

// gather lets others add their frames, and reports whether somebody did.
func (w *wire) gather() bool {
	o := &w.out
	o.mu.Lock()
	before := len(o.buf)
	o.mu.Unlock()
	runtime.Gosched()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) > before
}

// push writes what is in the outbox without waiting. The caller has claimed it; under says how many messages are under way.
func (w *wire) push(under int) {
	o := &w.out
	if w.sock.raw == nil || under >= yieldAt && !w.gather() && !w.dialled {
		// Many wait, and nobody adds a reply: they all wait for the one actor whose goroutine this is. The writer takes the writing off
		// it, and writes what it answers meanwhile at once. (With 64 callers of one actor: half the CPU, twice the replies.)
		o.kick()
		return
	}
	o.mu.Lock()
	if o.final || o.closed || len(o.buf) > keepBuffer {
		o.mu.Unlock()
		o.kick()
		return
	}
	batch := o.take()
	o.mu.Unlock()
	w.sock.begin()
	_, err := w.tls.Write(batch)
	all := false
	if err == nil {
		all, err = w.sock.tryFlush()
	}
	w.sock.end()
	if err != nil {
		w.close(w.ending(err))
		return
	}
	o.mu.Lock()
	o.give(batch)
	if all && len(o.buf) == 0 && !o.final {
		o.busy = false
		o.mu.Unlock()
		return
	}
	o.mu.Unlock()
	o.kick()
}

// write is the writer: it takes over claims and may wait.
func (w *wire) write() {
	o := &w.out
	for {
		select {
		case <-o.wake:
		case <-w.done:
			return
		}
		if err := w.writeAll(); err != nil {
			w.close(w.ending(err))
			return
		}
	}
}

func (w *wire) writeAll() error {
	o := &w.out
	for {
		if err := w.sock.flush(); err != nil {
			return err
		}
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			return nil
		}
		if len(o.buf) == 0 {
			final := o.final
			o.busy = false
			o.mu.Unlock()
			if final {
				w.close(errFinished)
			}
			return nil
		}
		batch := o.take()
		o.mu.Unlock()
		if err := w.encrypt(batch); err != nil {
			return err
		}
		o.mu.Lock()
		o.give(batch)
		o.mu.Unlock()
	}
}

// encrypt writes a batch of any size, in steps so that it is not in memory twice.
func (w *wire) encrypt(batch []byte) error {
	w.sock.begin()
	defer w.sock.end()
	for len(batch) > 0 {
		step := batch[:min(len(batch), writeStep)]
		batch = batch[len(step):]
		if _, err := w.tls.Write(step); err != nil {
			return err
		}
		if err := w.sock.flush(); err != nil {
			return err
		}
	}
	return nil
}

// cork and uncork surround the reader's work on a batch: what it answers goes out in one write.
func (w *wire) cork() {
	w.out.mu.Lock()
	w.out.corked = true
	w.out.mu.Unlock()
}

func (w *wire) uncork() {
	o := &w.out
	o.mu.Lock()
	o.corked = false
	claimed := (len(o.buf) > 0 || w.sock.stray.Swap(false) || o.final) && o.claim()
	o.mu.Unlock()
	if claimed {
		w.push(0)
	}
}

// control appends a frame of the connection's own, and has the writer write it: the caller may be anybody.
func (w *wire) control(frame func([]byte) []byte) {
	o := &w.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.buf = frame(o.buf)
	if o.claim() {
		o.kick()
	}
}

// finish closes the connection once everything that is in the outbox is written.
func (w *wire) finish() {
	o := &w.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.final = true
	if o.claim() {
		o.kick()
	}
}
