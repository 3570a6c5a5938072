package consensus

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/link"
)

// proposer is what an office uses of a [Voter].
type proposer interface {
	Propose(ctx context.Context, entry []byte) (result []byte, index uint64, err error)
	Barrier(ctx context.Context) error
	Leadership() (Leadership, <-chan struct{})
}

// Office is what a voter does for the other nodes: it tells them what the log says, and, while it leads, puts into it what they ask for
// and what core.Chair wants. What waits to be put in goes in together, one entry at a time: renewals of a hundred nodes cost one.
type Office struct {
	log    *Log
	out    *slog.Logger
	voter  atomic.Pointer[proposer] // nil before Run
	speaks atomic.Uint32            // the version that entries are written in, as of the last one
	asks   chan *ask
	term   uint64 // of the leadership that was last seen; run's own

	entries, took atomic.Uint64 // proposals that came through, and how long they took together in ns
}

// Entries returns how many entries this office has put into the log, and how long it took together from the proposal until each was applied.
func (o *Office) Entries() (n uint64, took time.Duration) {
	return o.entries.Load(), time.Duration(o.took.Load())
}

// put proposes an entry, and takes the time.
func (o *Office) put(ctx context.Context, voter proposer, entry []byte) ([]byte, error) {
	began := time.Now()
	results, _, err := voter.Propose(ctx, entry)
	if err == nil {
		o.entries.Add(1)
		o.took.Add(uint64(time.Since(began)))
	}
	return results, err
}

// ask is commands of a node that wait to be put into the log.
type ask struct {
	commands []core.Command
	size     int // in bytes
	ctx      context.Context
	answer   chan outcome // has room for one; closed without one: the outcome is not known
}

const (
	officeTick   = 50 * time.Millisecond
	batchMost    = 4096            // commands of one entry
	batchBytes   = defaultMaxEntry // of one entry
	proposeTime  = 3 * time.Second
	feedPatience = 500 * time.Millisecond
)

// NewOffice returns the office of a voter whose machine log is. [Office.Run] does its work.
func NewOffice(log *Log, out *slog.Logger) *Office {
	return &Office{log: log, out: out, asks: make(chan *ask)}
}

// Run works until ctx ends.
func (o *Office) Run(ctx context.Context, voter proposer) {
	o.voter.Store(&voter)
	var (
		tick     = time.NewTicker(officeTick)
		waiting  []*ask
		sent     []*ask                   // in the entry under way
		answered = make(chan []byte, 1)   // its results; nil: not known
		planned  = make(chan struct{}, 1) // the chair's entry is through
		barred   = make(chan uint64, 1)   // the barrier of a term is through
		planning bool
		work     sync.WaitGroup // its channels have room for what it says at its end
	)
	defer work.Wait()
	defer tick.Stop()
	for {
		lead, changed := voter.Leadership()
		if !lead.Leading {
			if o.term != 0 {
				o.term = 0
				o.chair(func(c *core.Chair, _ time.Duration) { c.Deposed() })
			}
			for _, a := range waiting {
				a.answer <- outcome{leader: core.Member{ID: lead.Leader, Authority: lead.Authority}}
			}
			waiting = nil
		} else if o.term != lead.Term {
			o.term = lead.Term
			o.out.Info("this node leads the voters", "term", lead.Term)
			o.chair(func(c *core.Chair, now time.Duration) { c.Led(now) })
			work.Go(func() { o.bar(ctx, voter, lead.Term, barred) })
		}
		// Who has given up may have asked for something else since, which this must not come after.
		waiting = slices.DeleteFunc(waiting, func(a *ask) bool { return a.ctx.Err() != nil })
		if lead.Leading && len(waiting) > 0 && sent == nil {
			sent, waiting = cut(waiting)
			work.Go(func() { o.propose(ctx, voter, sent, answered) })
		}
		if commands := o.plan(planning); len(commands) > 0 {
			planning = true
			work.Go(func() {
				o.carry(ctx, voter, commands)
				planned <- struct{}{}
			})
		}
		select {
		case <-ctx.Done():
			for _, a := range append(waiting, sent...) {
				close(a.answer)
			}
			return
		case a := <-o.asks:
			waiting = append(waiting, a)
		case results := <-answered:
			distribute(sent, results)
			sent = nil
		case <-planned:
			planning = false
		case term := <-barred:
			if term == o.term {
				o.chair(func(c *core.Chair, now time.Duration) { c.Barrier(now) })
			}
		case <-changed:
		case <-o.log.applied:
		case <-tick.C:
		}
	}
}

func (o *Office) chair(f func(*core.Chair, time.Duration)) {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	f(o.log.chair, o.log.now())
}

func (o *Office) plan(busy bool) (commands []core.Command) {
	if o.log.broken() != nil {
		return nil
	}
	o.chair(func(c *core.Chair, now time.Duration) { commands = c.Tick(now, busy) })
	return commands
}

// bar commits a barrier, again and again while the leadership lasts.
func (o *Office) bar(ctx context.Context, voter proposer, term uint64, done chan<- uint64) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, proposeTime)
		err := voter.Barrier(bounded)
		cancel()
		if err == nil {
			select {
			case done <- term:
			case <-ctx.Done():
			}
			return
		}
		if lead, _ := voter.Leadership(); !lead.Leading || lead.Term != term {
			return
		}
		o.out.Debug("the barrier of a new leader failed; again", "term", term, "err", err)
		pause(ctx, officeTick)
	}
}

// carry puts the chair's commands into the log. What fails is planned anew, and so is what does not fit into one entry.
func (o *Office) carry(ctx context.Context, voter proposer, commands []core.Command) {
	entry := o.entry(commands)
	for len(entry) > batchBytes && len(commands) > 1 {
		commands = commands[:len(commands)/2]
		entry = o.entry(commands)
	}
	o.announce(commands)
	bounded, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	if _, err := o.put(bounded, voter, entry); err != nil && ctx.Err() == nil {
		o.out.Warn("what the leader decided is not known to be in the log; it decides again", "err", err)
		pause(ctx, officeTick) // what is refused at once must not be decided again in a circle without a pause
	}
}

// entry writes commands in the newest version that all nodes read.
func (o *Office) entry(commands []core.Command) []byte {
	o.log.mu.Lock()
	version := o.log.table.Speaks()
	o.log.mu.Unlock()
	if before := o.speaks.Swap(version); before != version && before != 0 {
		o.out.Info("the voters' log is written in another version, for all nodes that have a session read it", "version", version, "before", before)
	}
	return core.AppendEntryAs(nil, version, commands...)
}

// announce says in one line what an entry of the chair's decides: how many of which command, over how many partitions.
func (o *Office) announce(commands []core.Command) {
	count, partitions := make(map[string]int), 0
	var ended []core.SessionID
	for i := range commands {
		c := &commands[i]
		count[c.Type.String()]++
		partitions += c.Partitions.Len()
		if c.Type == core.ExpireSession {
			ended = append(ended, c.Session)
		}
		o.out.Debug("a decision", "command", c.Type.String(), "session", c.Session, "from", c.From, "group", c.Group,
			"partitions", c.Partitions.Len(), "kinds", c.Kinds)
	}
	args := []any{"partitions", partitions}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		args = append(args, name, count[name])
	}
	if ended != nil {
		args = append(args, "sessions_ended", ended)
	}
	level := slog.LevelInfo
	if len(commands) == count[core.BeginMove.String()] { // they come a few at a time, one entry after another
		level = slog.LevelDebug
	}
	o.out.Log(context.Background(), level, "the leader decides", args...)
}

// cut takes as many as one entry holds.
func cut(waiting []*ask) (now, later []*ask) {
	n, size := 0, 0
	for i, a := range waiting {
		n, size = n+len(a.commands), size+a.size
		if (n > batchMost || size > batchBytes) && i > 0 {
			return waiting[:i:i], waiting[i:]
		}
	}
	return waiting, nil
}

func (o *Office) propose(ctx context.Context, voter proposer, asks []*ask, answered chan<- []byte) {
	var all []core.Command
	for _, a := range asks {
		all = append(all, a.commands...)
	}
	bounded, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	results, err := o.put(bounded, voter, o.entry(all))
	if err != nil {
		results = nil
		if !errors.Is(err, ErrNotLeader) && ctx.Err() == nil {
			o.out.Warn("what nodes asked for is not known to be in the log", "nodes", len(asks), "err", err)
		}
	}
	answered <- results
}

// distribute gives each ask its own results.
func distribute(asks []*ask, b []byte) {
	results, err := core.ReadResults(b)
	for _, a := range asks {
		if b == nil || err != nil || len(results) < len(a.commands) {
			close(a.answer)
			continue
		}
		a.answer <- outcome{led: true, results: core.AppendResults(nil, results[:len(a.commands)])}
		results = results[len(a.commands):]
	}
}

// submit puts commands of a node into the log if this voter leads.
func (o *Office) submit(ctx context.Context, from core.NodeID, entry []byte) (outcome, error) {
	commands, err := core.ReadEntry(entry)
	if err != nil {
		return outcome{}, abi.NewError(abi.ErrInvalidArgument, "the proposal of node "+string(from)+" cannot be read: "+err.Error())
	}
	for i := range commands {
		if why := o.log.allowed(from, &commands[i]); why != "" {
			o.out.Warn("a proposal was refused", "from", from, "why", why)
			return outcome{}, abi.NewError(abi.ErrDenied, why)
		}
	}
	a := &ask{commands: commands, size: len(entry), ctx: ctx, answer: make(chan outcome, 1)}
	select {
	case o.asks <- a:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	select {
	case out, ok := <-a.answer:
		if !ok {
			return outcome{}, abi.NewError(abi.ErrOutcomeUnknown, "it is not known whether the proposal is in the log")
		}
		return out, nil
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

// feed answers a follower, once there is something new or its patience is nearly at its end.
func (o *Office) feed(ctx context.Context, q question) (answer, error) {
	patience := feedPatience
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)-100*time.Millisecond)
	}
	timeout := time.NewTimer(max(0, patience))
	defer timeout.Stop()
	for {
		if err := o.log.broken(); err != nil {
			return answer{}, abi.NewError(abi.ErrNotReady, "this voter ends, and knows nothing more: "+err.Error())
		}
		a, changed := o.log.read(q)
		a.leader = o.leader()
		if changed == nil {
			return a, nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return a, nil
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
	}
}

// leader returns who leads, as this voter knows it.
func (o *Office) leader() core.Member {
	v := o.voter.Load()
	if v == nil {
		return core.Member{}
	}
	lead, _ := (*v).Leadership()
	return core.Member{ID: lead.Leader, Authority: lead.Authority}
}

// Services are those by which other nodes reach the office; they go into link.Config.
func (o *Office) Services() map[string]link.Service {
	all := o.passServices()
	maps.Copy(all, map[string]link.Service{
		feedService: func(ctx context.Context, _ core.NodeID, payload []byte) ([]byte, error) {
			q, err := readQuestion(payload)
			if err != nil {
				return nil, err
			}
			a, err := o.feed(ctx, q)
			if err != nil {
				return nil, err
			}
			return a.append(nil), nil
		},
		proposeService: func(ctx context.Context, from core.NodeID, payload []byte) ([]byte, error) {
			entry, err := readProposal(payload)
			if err != nil {
				return nil, err
			}
			out, err := o.submit(ctx, from, entry)
			if err != nil {
				return nil, err
			}
			return out.append(nil), nil
		},
	})
	return all
}
