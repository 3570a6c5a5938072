package actor

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/wasilo/wasilo/abi"
)

// Waits is the node's picture of who waits for whom: an edge from each actor of a call chain to the actor whose mailbox
// took the message, for the end of whose earlier activation it waits, or which deferred its reply, until there is a reply or the wait is given up. Turns that run at once
// add no edge, so the hot path never comes here. One lock guards it: of two messages that close a cycle together, one
// comes second and sees the other.
//
// What it knows of actors of other nodes are the chains of what came from there, as of when it was sent: that one of them has given up
// a request since, and goes on with its turn, shows on its own node alone.
//
// Whoever sends with a goroutine of its own gives its wait up by itself, at the deadline at the latest. A request that a
// turn started (import `start`), or an effect `call` on behalf of a deferred reply, has nobody who stands and waits; it
// counts as awaited from the moment it is sent until it is answered, its deadline passes, or that turn or that deferred
// reply has ended. Such waits are loose, and kept by their envelope.
type Waits struct {
	mu    sync.Mutex
	edges map[abi.Identity]map[*edge]struct{} // by who waits
	loose map[*abi.Envelope]*loose
	slack atomic.Int64 // len(loose), to be read without the lock
	last  uint64       // the id of an edge

	away     int                       // edges whose message went to another node
	suspects map[abi.Identity]struct{} // see Suspects; nil: nobody looks
	noticed  chan struct{}             // of one

	free sync.Pool // of *waiter
}

// NewWaits returns an empty picture.
func NewWaits() *Waits {
	// Ids begin anywhere, so that those of two runs of a node do not meet. None is 0.
	return &Waits{edges: make(map[abi.Identity]map[*edge]struct{}), loose: make(map[*abi.Envelope]*loose), last: rand.Uint64() >> 1,
		noticed: make(chan struct{}, 1)}
}

// edge is one wait: of every actor in chain for the target, until it is dropped.
type edge struct {
	Wait
	waits *Waits
	id    uint64
	node  string         // where the message was sent; "": it is here
	chain []abi.Identity // guarded by waits.mu: it may lose its front
	over  bool           // guarded by waits.mu
}

// loose is the wait behind a message that nobody stands and waits for. All but the first two fields are guarded by
// waits.mu.
type loose struct {
	waits *Waits
	env   *abi.Envelope
	edge  *edge
	over  bool // nobody waits any more
}

// add records that the chain of env waits for target, unless target waits for a member of it already: then nothing is
// recorded and the cycle is returned, target first and last. An empty chain has no edge; a nil edge may be dropped.
func (w *Waits) add(env *abi.Envelope, target abi.Identity) (e *edge, cycle []abi.Identity) {
	if len(env.Chain) == 0 {
		return nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.loose[env]
	if l != nil && l.over {
		return nil, nil
	}
	if path := w.path(target, env.Chain); path != nil {
		return nil, append(path, target)
	}
	e = w.link(env, target, "", l)
	w.suspect(target)
	return e, nil
}

// force records without looking: whoever defers a reply waits for nobody by that.
func (w *Waits) force(env *abi.Envelope, target abi.Identity, node string) *edge {
	if len(env.Chain) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.loose[env]
	if l != nil && l.over {
		return nil
	}
	return w.link(env, target, node, l)
}

// Leaving records that the chain of env waits for its target, which lives on the node named, so that a cycle over several nodes can be
// followed there; see [Walk]. The function returned ends the wait; it may be called more than once.
func (w *Waits) Leaving(env *abi.Envelope, node string) (over func()) {
	return w.force(env, env.Target, node).drop
}

// Held records that the chain of env waits for its target before a mailbox has the message: an earlier activation of the target has to end first,
// and its turn may wait for the chain. The error is the deadlock that this would be. The function returned ends the wait.
func (w *Waits) Held(env *abi.Envelope) (over func(), err error) {
	e, cycle := w.add(env, env.Target)
	if cycle != nil {
		return nil, deadlock(cycle)
	}
	return e.drop, nil
}

func (w *Waits) link(env *abi.Envelope, target abi.Identity, node string, l *loose) *edge {
	w.last++
	e := &edge{Wait: Wait{Caller: env.Caller, Waiter: env.Chain[len(env.Chain)-1], Target: target},
		waits: w, id: w.last, node: node, chain: env.Chain}
	if node != "" {
		w.away++
	}
	w.relink(e)
	if l != nil {
		l.edge = e
	}
	return e
}

func (w *Waits) relink(e *edge) {
	for _, from := range e.chain {
		to := w.edges[from]
		if to == nil {
			to = make(map[*edge]struct{}, 1)
			w.edges[from] = to
		}
		to[e] = struct{}{}
	}
}

// drop ends the wait; further drops do nothing.
func (e *edge) drop() {
	if e == nil {
		return
	}
	e.waits.mu.Lock()
	defer e.waits.mu.Unlock()
	e.waits.end(e)
}

// end unlinks an edge for good.
func (w *Waits) end(e *edge) {
	if e.over {
		return
	}
	e.over = true
	w.unlink(e)
	if e.node != "" {
		w.away--
	}
}

func (w *Waits) unlink(e *edge) {
	for _, from := range e.chain {
		to := w.edges[from]
		if delete(to, e); len(to) == 0 {
			delete(w.edges, from)
		}
	}
}

// loosen makes the wait for env's reply a loose one. It must come before env is sent, and exactly one
// [loose.answered] after.
func (w *Waits) loosen(env *abi.Envelope) *loose {
	l := &loose{waits: w, env: env}
	w.slack.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loose[env] = l
	return l
}

// giveUp says that nobody waits any more, though the message may still be on its way.
func (l *loose) giveUp() {
	l.waits.mu.Lock()
	defer l.waits.mu.Unlock()
	l.giveUpLocked()
}

func (l *loose) giveUpLocked() {
	l.over = true
	if l.edge != nil {
		l.waits.end(l.edge)
		l.edge = nil
	}
}

// answered says that env was answered or was never sent.
func (l *loose) answered() {
	w := l.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.loose, l.env)
	w.slack.Add(-1)
}

// leave says that the turn of an actor has ended while requests that it started are under way. Since an actor waits by its
// running turn alone, nobody up to it in a chain waits any more; those behind it still do.
func (w *Waits) leave(id abi.Identity, given map[uint32]*started) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range given {
		s.wait.giveUpLocked()
	}
	for e := range w.edges[id] {
		chain := e.chain[slices.Index(e.chain, id)+1:]
		if len(chain) == 0 {
			w.end(e)
			continue
		}
		w.unlink(e)
		e.chain = chain
		w.relink(e)
	}
}

// awaited returns the chain of env, none if that is known to have stopped waiting.
func (w *Waits) awaited(env *abi.Envelope) []abi.Identity {
	if w.slack.Load() == 0 || len(env.Chain) == 0 {
		return env.Chain
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.loose[env]; l != nil && l.over {
		return nil
	}
	return env.Chain
}

// path finds a shortest way along the edges from start to a member of goals, within this node: that a message went to another one does
// not say that it waits there. Its reply may be on its way while what the other asks in its next turn overtakes it, on another
// connection. Such ways are for [Walk].
func (w *Waits) path(start abi.Identity, goals []abi.Identity) []abi.Identity {
	if len(w.edges[start]) == 0 {
		return nil
	}
	cameFrom := map[abi.Identity]abi.Identity{start: {}}
	todo := []abi.Identity{start}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		for _, g := range goals {
			if g == at && at != start {
				var rev []abi.Identity
				for n := at; !n.IsZero(); n = cameFrom[n] {
					rev = append(rev, n)
				}
				for i, j := 0, len(rev)-1; i < j; i, j = i+1, j-1 {
					rev[i], rev[j] = rev[j], rev[i]
				}
				return rev
			}
		}
		for e := range w.edges[at] {
			if e.node != "" {
				continue
			}
			if _, seen := cameFrom[e.Target]; !seen {
				cameFrom[e.Target] = at
				todo = append(todo, e.Target)
			}
		}
	}
	return nil
}

// Len returns how many actors wait, for tests and metrics.
func (w *Waits) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.edges)
}

// inChain returns the deadlock that delivering to target would be, or nil.
func inChain(chain []abi.Identity, target abi.Identity) error {
	for i, id := range chain {
		if id == target {
			return deadlock(append(append([]abi.Identity(nil), chain[i:]...), target))
		}
	}
	return nil
}

func deadlock(cycle []abi.Identity) error {
	var b strings.Builder
	for i, id := range cycle {
		if i > 0 {
			b.WriteString("→")
		}
		b.WriteString(id.Key())
	}
	return abi.NewError(abi.ErrDeadlock, b.String())
}
