package silo

import "sync"

// workers run the mailboxes of activations, one after the other, on goroutines that are kept for the next: a turn needs more stack
// than a new goroutine has, and growing it cost a third of the time of a small wasm turn.
type workers struct {
	work *sync.WaitGroup // counts what runs
	idle chan chan func()
	stop chan struct{}
	kept sync.WaitGroup // the goroutines, those that wait included
}

// maxIdle bounds the goroutines that wait for work. They are for bursts, and each may hold a stack of some KiB.
const maxIdle = 256

func newWorkers(work *sync.WaitGroup) *workers {
	return &workers{work: work, idle: make(chan chan func(), maxIdle), stop: make(chan struct{})}
}

// run runs f on another goroutine.
func (p *workers) run(f func()) {
	p.work.Add(1)
	select {
	case w := <-p.idle:
		w <- f
	default:
		p.kept.Go(func() { p.life(f) })
	}
}

// life is a goroutine's: f, and then what comes while there is room for it to wait. A turn that ends its goroutine ends this one.
func (p *workers) life(f func()) {
	next := make(chan func(), 1)
	for {
		p.one(f)
		select {
		case p.idle <- next:
		default:
			return
		}
		select {
		case f = <-next:
		case <-p.stop:
			return
		}
	}
}

func (p *workers) one(f func()) {
	defer p.work.Done()
	f()
}

// end ends the goroutines that wait. Nothing may run any more, nor begin to.
func (p *workers) end() {
	close(p.stop)
	p.kept.Wait()
}
