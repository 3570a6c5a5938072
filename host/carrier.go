package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/link"
)

// carrier brings actors to other nodes and takes in those that come, as the voters' log says: it is the consensus.Mover of a node. What a move
// takes along goes over the link in questions to the target: whether it is ready, the states in chunks, and what has arrived.
type carrier struct {
	node *Node

	mu      sync.Mutex
	arrives map[core.MoveID][]byte // chunks of which a part is here
	over    [mostOver]core.MoveID  // the moves to this node that ended last
	last    int                    // in over
}

var _ consensus.Mover = (*carrier)(nil)

// The services of a target. Each question is a CBOR array that begins with a version and the move.
const (
	readyService = "move.ready"
	chunkService = "move.chunk"
	doneService  = "move.done"

	carrierVersion = 1
	chunkBytes     = 256 << 10       // of a chunk, unless one actor's state alone is larger
	pieceBytes     = 256 << 10       // of a chunk in one question
	mostChunk      = 256 << 20       // of a chunk that is taken in: a state is smaller
	expectTime     = 3 * time.Second // for the log to reach the target, too
	sealAgain      = 5 * time.Millisecond
	// mostOver bounds the moves that are known to be over. A chunk of one comes no later than its question takes, and not as many moves
	// end in that time.
	mostOver = 1024
)

// errOver is what becomes of a chunk whose move has ended while it was on its way.
var errOver = abi.NewError(abi.ErrNotReady, "the move is over")

// HandOver implements [consensus.Mover].
func (c *carrier) HandOver(ctx context.Context, part core.Part, target core.Member) ([]byte, error) {
	ask := func(service string, p piece) ([]byte, error) {
		p.move = part.Move
		return c.node.net.link.Ask(ctx, target, service, p.append(nil))
	}
	if _, err := ask(readyService, piece{}); err != nil {
		return nil, fmt.Errorf("node %s is not ready for it: %w", target.ID, err)
	}
	what := cluster.Part{Kinds: part.Kinds, Partitions: part.Partitions.Moved()}
	// Those whose state travels first: what keeps none loses it when it ends, and does not end before the rest is there.
	if lasting := c.lasting(what); len(lasting.Kinds) > 0 {
		if err := c.node.silo.Surrender(ctx, lasting); err != nil {
			return nil, fmt.Errorf("its actors do not end: %w", err)
		}
	}
	sent, err := c.send(ctx, what, target, ask)
	if err != nil {
		return nil, err
	}
	if err := c.seal(ctx, part, what); err != nil {
		return nil, err
	}
	// A turn that was waited for may have woken an actor once more.
	manifest, err := c.node.silo.Export(ctx, what, chunkBytes, func([]byte) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("what its actors left cannot be read: %w", err)
	}
	if manifest != sent {
		if _, err := ask(readyService, piece{}); err != nil {
			return nil, fmt.Errorf("node %s is not ready for it any more: %w", target.ID, err)
		}
		if manifest, err = c.send(ctx, what, target, ask); err != nil {
			return nil, err
		}
	}
	c.node.moved.out(manifest)
	return appendManifest(nil, manifest), nil
}

// lasting is the part of it whose actors leave something.
func (c *carrier) lasting(part cluster.Part) cluster.Part {
	have := c.node.kinds.Load()
	kinds := make([]string, 0, len(part.Kinds))
	for _, name := range part.Kinds {
		if k := have.byName[name]; k != nil && k.Desc.State.Level == abi.LevelHibernating {
			kinds = append(kinds, name)
		}
	}
	return cluster.Part{Kinds: kinds, Partitions: part.Partitions}
}

// seal ends every activation of a part, and sees to it that there is none any more.
func (c *carrier) seal(ctx context.Context, part core.Part, what cluster.Part) error {
	for {
		if err := c.node.silo.Surrender(ctx, what); err != nil {
			return fmt.Errorf("its actors do not end: %w", err)
		}
		if c.node.runtime.HandleSeal(part) {
			return nil
		}
		select { // an activation was on its way to the silo
		case <-time.After(sealAgain):
		case <-ctx.Done():
			return fmt.Errorf("its actors do not end: %w", ctx.Err())
		}
	}
}

// send brings what the actors of a part left to the target, and returns what that is once the target has all of it.
func (c *carrier) send(ctx context.Context, what cluster.Part, target core.Member, ask func(string, piece) ([]byte, error)) (m cluster.Manifest, err error) {
	m, err = c.node.silo.Export(ctx, what, chunkBytes, func(chunk []byte) error {
		most := min(pieceBytes, c.node.cfg.Limits.MaxMessage/2)
		for at := 0; at < len(chunk); {
			n := min(most, len(chunk)-at)
			if _, err := ask(chunkService, piece{at: at, of: len(chunk), bytes: chunk[at : at+n]}); err != nil {
				return err
			}
			at += n
		}
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("what its actors left cannot be sent: %w", err)
	}
	b, err := ask(doneService, piece{})
	if err != nil {
		return m, fmt.Errorf("node %s does not say what has arrived: %w", target.ID, err)
	}
	arrived, err := readManifest(b)
	if err == nil && arrived != m {
		err = fmt.Errorf("what was sent is %+v, and node %s has %+v", m, target.ID, arrived)
	}
	return m, err
}

// TakeIn implements [consensus.Mover].
func (c *carrier) TakeIn(part core.Part, epoch abi.Epoch, b []byte) error {
	defer c.end(part.Move)
	move := cluster.MoveID(part.Move)
	want, err := readManifest(b)
	if err != nil {
		return err
	}
	have, foreign := c.node.silo.Staged(move)
	if have != want {
		return fmt.Errorf("what was to come is %+v, and %+v is here", want, have)
	}
	for kind, n := range foreign {
		c.node.log.Warn("actors came that were left by another version of their module: unless that version comes, their state is given up",
			"kind", kind, "actors", n)
	}
	if want.Actors == 0 {
		c.node.moved.in(want)
		return nil
	}
	if err := c.node.silo.Accept(move, epoch); err != nil {
		return err
	}
	c.node.moved.in(want)
	return nil
}

// TurnAway implements [consensus.Mover].
func (c *carrier) TurnAway(m core.MoveID) { c.end(m) }

// end drops what is here of a move that is over, and what may come of it yet: a question that found the move expected may be under way still,
// and nobody would end what it stages.
func (c *carrier) end(m core.MoveID) {
	c.mu.Lock()
	if !slices.Contains(c.over[:], m) {
		c.last = (c.last + 1) % mostOver
		c.over[c.last] = m
	}
	c.mu.Unlock()
	c.restart(m)
}

// restart drops what is here of a move that begins, maybe once more.
func (c *carrier) restart(m core.MoveID) {
	c.mu.Lock()
	delete(c.arrives, m)
	c.mu.Unlock()
	c.node.silo.Reject(cluster.MoveID(m))
}

// ended reports whether a move is over.
func (c *carrier) ended(m core.MoveID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.over[:], m)
}

// bring takes a piece of a chunk, and stages the chunk once it is whole.
func (c *carrier) bring(part core.Part, p piece) error {
	chunk, err := c.arrived(p)
	if chunk == nil {
		return err
	}
	move := cluster.MoveID(part.Move)
	err = c.node.silo.Import(move, cluster.Part{Kinds: part.Kinds, Partitions: part.Partitions.Moved()}, chunk)
	if c.ended(part.Move) { // if it ends from now on, what is staged is seen
		c.node.silo.Reject(move)
		return errOver
	}
	return err
}

// arrived adds a piece to its chunk, and returns the chunk once it is whole. Pieces come in order, one after the other.
func (c *carrier) arrived(p piece) ([]byte, error) {
	if p.at == 0 && p.of == len(p.bytes) {
		return p.bytes, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.over[:], p.move) {
		return nil, errOver
	}
	chunk := c.arrives[p.move]
	if p.at == 0 {
		chunk = nil
	}
	if p.at != len(chunk) || p.of > mostChunk || p.at+len(p.bytes) > p.of || len(p.bytes) == 0 {
		delete(c.arrives, p.move)
		return nil, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("a piece of move %d is at byte %d of %d, and %d are here", p.move, p.at, p.of, len(chunk)))
	}
	if chunk = append(chunk, p.bytes...); len(chunk) == p.of {
		delete(c.arrives, p.move)
		return chunk, nil
	}
	if c.arrives == nil {
		c.arrives = make(map[core.MoveID][]byte)
	}
	c.arrives[p.move] = chunk
	return nil, nil
}

// services are those of a target.
func (c *carrier) services() map[string]link.Service {
	serve := func(f func(x consensus.Expected, p piece) ([]byte, error)) link.Service {
		return func(ctx context.Context, from cluster.NodeID, payload []byte) ([]byte, error) {
			p, err := readPiece(payload)
			if err != nil {
				return nil, err
			}
			x, err := c.expected(ctx, p.move, from)
			if err != nil {
				return nil, err
			}
			return f(x, p)
		}
	}
	return map[string]link.Service{
		readyService: serve(func(x consensus.Expected, _ piece) ([]byte, error) {
			c.restart(x.Part.Move)
			return nil, c.ready(x.Part)
		}),
		chunkService: serve(func(x consensus.Expected, p piece) ([]byte, error) {
			return nil, c.bring(x.Part, p)
		}),
		doneService: serve(func(x consensus.Expected, _ piece) ([]byte, error) {
			m, _ := c.node.silo.Staged(cluster.MoveID(x.Part.Move))
			return appendManifest(nil, m), nil
		}),
	}
}

// expected returns a move that the log has come to this node from the one that asks. The log may reach this node a little later.
func (c *carrier) expected(ctx context.Context, move core.MoveID, from cluster.NodeID) (x consensus.Expected, err error) {
	q := c.node.quorum
	if q == nil || !q.opened.Load() {
		return x, abi.NewError(abi.ErrNotReady, "this node does not follow the voters' log yet")
	}
	bounded, cancel := context.WithTimeout(ctx, expectTime)
	defer cancel()
	err = q.resident.Await(bounded, func(s consensus.Standing) (ok bool) {
		x, ok = s.Expected[move]
		return ok
	})
	if err != nil {
		return x, abi.NewError(abi.ErrNotReady, fmt.Sprintf("this node knows of no move %d to it", move))
	}
	if x.From != from {
		return x, abi.NewError(abi.ErrDenied, fmt.Sprintf("move %d comes from node %s, and node %s speaks of it", move, x.From, from))
	}
	return x, nil
}

// ready returns why this node cannot run what is to come, or nil.
func (c *carrier) ready(part core.Part) error {
	if c.node.leaving.Load() {
		return errLeaving
	}
	have := c.node.kinds.Load()
	for _, k := range part.Kinds {
		if have.byName[k] == nil {
			return abi.NewError(abi.ErrNotReady, "this node does not serve the kind "+k)
		}
	}
	return nil
}

// piece is a question about a move, and with chunks a part of one.
type piece struct {
	move   core.MoveID
	at, of int // where it is in its chunk, of how many bytes
	bytes  []byte
}

func (p *piece) append(b []byte) []byte {
	b = abi.AppendUint(abi.AppendArray(b, 5), carrierVersion)
	b = abi.AppendUint(abi.AppendUint(b, uint64(p.move)), uint64(p.at))
	return abi.AppendBytes(abi.AppendUint(b, uint64(p.of)), p.bytes)
}

func readPiece(b []byte) (p piece, err error) {
	r := abi.NewReader(b)
	n, version := r.Array(), r.Uint()
	if r.Err() == nil && version > carrierVersion {
		r.Fail(fmt.Sprintf("it is of version %d, and this node knows up to %d", version, carrierVersion))
	} else if n != 5 {
		r.Fail("it has five items")
	}
	p.move = core.MoveID(r.Uint())
	p.at, p.of = int(min(r.Uint(), mostChunk+1)), int(min(r.Uint(), mostChunk+1))
	p.bytes = r.Bytes()
	r.End()
	if err := r.Err(); err != nil {
		return p, abi.NewError(abi.ErrInvalidArgument, "what a move brings cannot be read: "+err.Error())
	}
	return p, nil
}

func appendManifest(b []byte, m cluster.Manifest) []byte {
	b = abi.AppendUint(abi.AppendArray(b, 5), m.Actors)
	b = abi.AppendUint(abi.AppendUint(b, m.Bytes), m.Sum)
	return abi.AppendUint(abi.AppendUint(b, uint64(m.Newest.Generation)), m.Newest.Index)
}

var errManifest = errors.New("a manifest has five numbers")

func readManifest(b []byte) (m cluster.Manifest, err error) {
	r := abi.NewReader(b)
	if r.Array() != 5 {
		return m, errManifest
	}
	m = cluster.Manifest{Actors: r.Uint(), Bytes: r.Uint(), Sum: r.Uint(), Newest: abi.Epoch{Generation: r.Uint32(), Index: r.Uint()}}
	r.End()
	return m, r.Err()
}

// moved counts what moves brought to other nodes and from them.
type moved struct {
	movesOut, actorsOut, bytesOut atomic.Uint64
	movesIn, actorsIn, bytesIn    atomic.Uint64
}

func (m *moved) out(b cluster.Manifest) {
	m.movesOut.Add(1)
	m.actorsOut.Add(b.Actors)
	m.bytesOut.Add(b.Bytes)
}

func (m *moved) in(b cluster.Manifest) {
	m.movesIn.Add(1)
	m.actorsIn.Add(b.Actors)
	m.bytesIn.Add(b.Bytes)
}
