package actor

import (
	"strings"
	"sync"

	"github.com/wasilo/wasilo/abi"
)

// Waits is the node's picture of who waits for whom: an edge from each actor of a call chain to the actor whose mailbox
// took the message, or which deferred its reply, until there is a reply or the wait is given up. Turns that run at once
// add no edge, so the hot path never comes here. One lock guards it: of two messages that close a cycle together, one
// comes second and sees the other.
//
// A request that a turn started (import `start`) counts as awaited from its start.
type Waits struct {
	mu    sync.Mutex
	edges map[abi.Identity]map[abi.Identity]int

	free sync.Pool // of *waiter
}

// NewWaits returns an empty picture.
func NewWaits() *Waits { return &Waits{edges: make(map[abi.Identity]map[abi.Identity]int)} }

// edge is one wait: of every actor in chain for target, until it is dropped.
type edge struct {
	waits   *Waits
	chain   []abi.Identity
	target  abi.Identity
	dropped bool // under waits.mu
}

// add records that chain waits for target, unless target waits for a member of chain already: then nothing is recorded
// and the cycle is returned, target first and last. An empty chain has no edge; a nil edge may be dropped.
func (w *Waits) add(chain []abi.Identity, target abi.Identity) (e *edge, cycle []abi.Identity) {
	if len(chain) == 0 {
		return nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if path := w.path(target, chain); path != nil {
		return nil, append(path, target)
	}
	return w.link(chain, target), nil
}

// force records without looking: whoever defers a reply waits for nobody by that.
func (w *Waits) force(chain []abi.Identity, target abi.Identity) *edge {
	if len(chain) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link(chain, target)
}

func (w *Waits) link(chain []abi.Identity, target abi.Identity) *edge {
	for _, from := range chain {
		to := w.edges[from]
		if to == nil {
			to = make(map[abi.Identity]int, 1)
			w.edges[from] = to
		}
		to[target]++
	}
	return &edge{waits: w, chain: chain, target: target}
}

// drop ends the wait; further drops do nothing.
func (e *edge) drop() {
	if e == nil {
		return
	}
	w := e.waits
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.dropped {
		return
	}
	e.dropped = true
	for _, from := range e.chain {
		to := w.edges[from]
		if to[e.target] > 1 {
			to[e.target]--
			continue
		}
		if delete(to, e.target); len(to) == 0 {
			delete(w.edges, from)
		}
	}
}

// path finds a way along the edges from start to a member of goals.
func (w *Waits) path(start abi.Identity, goals []abi.Identity) []abi.Identity {
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
		for next := range w.edges[at] {
			if _, seen := cameFrom[next]; !seen {
				cameFrom[next] = at
				todo = append(todo, next)
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
