package serfwatch

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/wasilo/wasilo/cluster"
)

// Watch is this node in the gossip, and a [cluster.TopologyStream]. Its methods may be called from any goroutine; Start once.
type Watch struct {
	cfg     Config
	pace    pace
	self    said
	log     *slog.Logger
	lines   *logWriter
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	board   *board

	serf       *serf.Serf // from Start on, as the next
	addr       netip.AddrPort
	picture    atomic.Pointer[picture]
	told       map[ignored]struct{} // members ignored and warned of; the owner loop's
	toldPairs  map[[2]uint64]struct{}
	superseded chan struct{}
	failed     chan struct{}

	mu      sync.Mutex
	begun   bool // Start was called, or Close
	shut    bool // nothing more may be begun
	ctx     context.Context
	cancel  context.CancelFunc
	seeds   context.Context // of those who follow the seeds; a child of ctx
	unseed  context.CancelFunc
	work    sync.WaitGroup
	closing sync.Once
	closed  error // set by closing
	leaving sync.Once
	left    error // set by leaving
}

// New checks the configuration. The error has every fault it found.
func New(cfg Config) (*Watch, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, fmt.Errorf("serfwatch: %w", err)
	}
	p, err := cfg.Profile.pace()
	if err != nil {
		return nil, err
	}
	w := &Watch{cfg: cfg, pace: p.patient(cfg.Patience), self: cfg.said(), log: cfg.Log, lines: &logWriter{log: cfg.Log}, resolve: lookup, board: newBoard(),
		superseded: make(chan struct{}), failed: make(chan struct{})}
	w.picture.Store(&picture{})
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.seeds, w.unseed = context.WithCancel(w.ctx)
	return w, nil
}

// Start listens, tries the seeds, and publishes the first snapshot: with the members found through a seed, or with this node
// alone once every seed has failed once, at the latest after a few seconds; seeds that did not answer are tried on. It fails if gossip
// cannot listen, with an error that names the address, or if ctx ends first. After an error the Watch is closed.
func (w *Watch) Start(ctx context.Context) error {
	w.mu.Lock()
	begun := w.begun
	w.begun = true
	w.mu.Unlock()
	if begun {
		return errors.New("serfwatch: it was started before, or is closed")
	}
	wake, err := w.open(ctx)
	if err != nil {
		_ = w.Close()
		return fmt.Errorf("serfwatch: %w", err)
	}
	if err := w.firstJoin(ctx); err != nil {
		_ = w.Close()
		return fmt.Errorf("serfwatch: interrupted while joining: %w", err)
	}
	w.refresh()
	if !w.spawn(func() { w.run(wake) }) {
		return ErrClosed
	}
	w.log.Info("gossip has started", "node", w.cfg.ID, "boot", bootText(w.cfg.Boot), "cluster", w.cfg.Cluster,
		"gossip", w.addr, "profile", w.cfg.Profile, "encrypted", len(w.cfg.Keys) > 0, "members", w.picture.Load().topology.Len())
	return nil
}

// open starts serf, and the loops that follow it.
func (w *Watch) open(ctx context.Context) (wake <-chan struct{}, err error) {
	logger := log.New(w.lines, "", 0)
	list := w.pace.list
	list.Label = w.cfg.Cluster
	list.Logger, list.LogOutput = logger, nil
	list.EnableCompression = false
	if len(w.cfg.Keys) > 0 {
		if list.Keyring, err = memberlist.NewKeyring(w.cfg.Keys, w.cfg.Keys[0]); err != nil {
			return nil, fmt.Errorf("gossip key: %w", err)
		}
	}
	net, err := w.network(ctx, list, logger)
	if err != nil {
		return nil, err
	}
	list.Transport = net

	// Of serf's own settings: no coordinates, which put load on each probe; no votes on names, since no two runs share
	// one, and a vote can be forged; no snapshot, with which events are dropped; no coalescing, since the view is what counts.
	events := make(chan serf.Event, 64)
	conf := serf.DefaultConfig()
	conf.NodeName = w.self.name()
	conf.Tags = w.self.tags()
	conf.EventCh = events
	conf.MemberlistConfig = list
	conf.Logger, conf.LogOutput = logger, nil
	conf.EnableNameConflictResolution = false
	conf.DisableCoordinates = true
	conf.ReconnectInterval = reconnect
	conf.ReconnectTimeout, conf.TombstoneTimeout = forget, forget
	conf.BroadcastTimeout, conf.LeavePropagateDelay = w.pace.broadcast, w.pace.linger
	s, err := serf.Create(conf)
	if err != nil {
		_ = net.Shutdown()
		return nil, err
	}
	local := s.LocalMember()
	ip, _ := netip.AddrFromSlice(local.Addr)
	w.mu.Lock()
	shut := w.shut
	if !shut {
		w.serf, w.addr = s, netip.AddrPortFrom(ip.Unmap(), local.Port)
	}
	w.mu.Unlock()
	awake := make(chan struct{}, 1)
	if shut || !w.spawn(func() { drain(events, s.ShutdownCh(), awake) }) {
		_ = s.Shutdown()
		return nil, ErrClosed
	}
	return awake, nil
}

// spawn runs f on a goroutine that Close waits for; false if it is too late for that.
func (w *Watch) spawn(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut {
		return false
	}
	w.work.Go(f)
	return true
}

// drain takes serf's events until serf has shut down, and never waits for anything else: serf writes them while it holds the
// lock on its member list. After the shutdown serf passes each further event on with a chance of one half, then ends: those few
// have room in the channel.
func drain(events <-chan serf.Event, shutdown <-chan struct{}, wake chan<- struct{}) {
	for {
		select {
		case <-events:
			select {
			case wake <- struct{}{}:
			default:
			}
		case <-shutdown:
			for {
				select {
				case <-events:
				default:
					return
				}
			}
		}
	}
}

// firstJoin begins to follow the seeds, and returns when one has been joined, all have failed once, or it has taken long
// enough.
func (w *Watch) firstJoin(ctx context.Context) error {
	if len(w.cfg.Join) == 0 {
		return ctx.Err()
	}
	first := make(chan bool, len(w.cfg.Join))
	for _, seed := range w.cfg.Join {
		w.spawn(func() { w.follow(w.seeds, seed, first) })
	}
	limit := time.NewTimer(w.pace.firstJoin)
	defer limit.Stop()
	for range w.cfg.Join {
		select {
		case ok := <-first:
			if ok {
				return nil
			}
		case <-limit.C:
			return nil
		case <-w.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// run is the owner loop: it draws the picture anew whenever serf has something to tell, and now and then, since a member that has
// begun to leave is no event.
func (w *Watch) run(wake <-chan struct{}) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-wake:
			w.refresh()
		case <-tick.C:
			w.refresh()
		case <-w.ctx.Done():
			return
		case <-w.serf.ShutdownCh():
			if w.ctx.Err() == nil && w.board.end(ErrFailed) {
				w.log.Error(ErrFailed.Error(), "node", w.cfg.ID)
				w.cancel()
				close(w.failed)
			}
			return
		}
	}
}

// lookAgain is how often the member list is read without an event.
const lookAgain = 5 * time.Second

// refresh draws the picture from the member list as it is now. One goroutine at a time calls it: Start's, then the one of run.
func (w *Watch) refresh() {
	p, err := draw(w.self, w.serf.Members())
	if err != nil { // every field of every member was checked
		w.log.Error("the member list makes no topology; the last one stays", "err", err)
		return
	}
	before := w.picture.Swap(&p)
	w.board.publish(p.topology)
	w.tell(before, &p)
}

// Leave tells the other nodes that this one leaves, waits until that has spread, and closes the Watch. With ctx ending first
// it is closed at once, the others may find it failed, and the error says so; what serf began for it ends within seconds.
func (w *Watch) Leave(ctx context.Context) error {
	w.leaving.Do(func() {
		w.unseed()
		w.mu.Lock()
		s := w.serf
		w.mu.Unlock()
		p := w.picture.Load()
		if s != nil && (p.present > 0 || len(p.ignored) > 0) { // those that are ignored here gossip of this node all the same
			done := make(chan error, 1)
			go func() {
				defer func() {
					// memberlist panics if it is shut down in the middle of leaving, which is what the end of ctx does.
					if r := recover(); r != nil {
						done <- fmt.Errorf("serf was shut down meanwhile: %v", r)
					}
				}()
				done <- s.Leave()
			}()
			select {
			case w.left = <-done:
			case <-ctx.Done():
				w.left = fmt.Errorf("serfwatch: left without having told everybody: %w", ctx.Err())
			}
		}
		w.left = errors.Join(w.left, w.Close())
	})
	return w.left
}

// Close ends everything at once, without telling: the other nodes will find this one failed. It waits for the Watch's own goroutines
// and closes every connection; of serf's, one that waits for the answer to a probe ends within the probe's time.
func (w *Watch) Close() error {
	w.closing.Do(func() {
		w.mu.Lock()
		w.begun, w.shut = true, true
		s := w.serf
		w.mu.Unlock()
		w.board.end(ErrClosed)
		w.cancel()
		w.lines.mute.Store(true)
		if s != nil {
			w.closed = s.Shutdown()
		}
		w.work.Wait()
	})
	return w.closed
}

// Failed is closed when serf has stopped by itself: a node that gossips no more must be ended. Subscriptions end with [ErrFailed].
func (w *Watch) Failed() <-chan struct{} { return w.failed }

// Err returns what ended the Watch: nil, [ErrClosed] or [ErrFailed].
func (w *Watch) Err() error {
	_, _, err := w.board.look()
	return err
}

// Superseded is closed when another live node has this node's id and a greater boot number, so that the others send what is this
// node's to that one. Either two nodes were given one id, or this one was thought dead and replaced. It is gossip and can be forged:
// an authenticated link to the other can confirm it.
func (w *Watch) Superseded() <-chan struct{} { return w.superseded }

// Node returns what the others see of this node.
func (w *Watch) Node() cluster.Node { return w.self.node }

// Addr returns the host:port that other nodes can join, "" before Start has listened.
func (w *Watch) Addr() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.addr.IsValid() {
		return ""
	}
	return w.addr.String()
}

// Misplaced returns why a node that is here now is left out for having another [Config.Placement] than this one, in words that name
// both and say what to do; nil: there is none.
func (w *Watch) Misplaced() error { return w.picture.Load().misplaced }

// Peers returns the nodes that gossip knows, clients and those that left or failed lately among them, sorted by id; of one id the
// one that is used comes first.
func (w *Watch) Peers() []Peer { return w.picture.Load().clone() }
