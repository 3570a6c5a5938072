package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// asker reaches voters: those of other nodes over the link, this node's own directly.
type asker struct {
	self    core.NodeID
	network interface {
		Ask(ctx context.Context, node core.Member, service string, payload []byte) ([]byte, error)
	}
	office *Office              // nil: there is no voter here
	voters func() []core.Member // where voters are said to be
	leader atomic.Pointer[core.Member]
	work   *sync.WaitGroup // of whoever calls
}

// feed asks one voter what the log says.
func (a *asker) feed(ctx context.Context, voter core.Member, q question) (answer, error) {
	if voter.ID == a.self {
		return a.office.feed(ctx, q)
	}
	b, err := a.network.Ask(ctx, voter, feedService, q.append(nil))
	if err != nil {
		return answer{}, err
	}
	return readAnswer(b)
}

// propose asks one voter to put commands into the log.
func (a *asker) propose(ctx context.Context, voter core.Member, entry []byte) (outcome, error) {
	if voter.ID == a.self {
		return a.office.submit(ctx, a.self, entry)
	}
	b, err := a.network.Ask(ctx, voter, proposeService, appendProposal(nil, entry))
	if err != nil {
		return outcome{}, err
	}
	return readOutcome(b)
}

// candidates are the voters in the order in which to ask them.
func (a *asker) candidates() []core.Member {
	var all []core.Member
	add := func(m core.Member) {
		if m.ID == "" || m.ID == a.self && a.office == nil {
			return
		}
		for _, o := range all {
			if o.ID == m.ID {
				return
			}
		}
		all = append(all, m)
	}
	add(a.leading())
	if a.office != nil {
		if l := a.office.leader(); l.ID != "" {
			add(l)
			add(core.Member{ID: a.self})
		}
	}
	for _, m := range a.voters() {
		add(m)
	}
	if a.office != nil {
		add(core.Member{ID: a.self})
	}
	return all
}

// news is what a follower brings: entries, or a table in place of the one there is, or neither, and how far it has heard.
type news struct {
	records []record
	table   *core.Table
	// upTo is the index in a generation up to which there is nothing more; 0: that is not known, there may be more than fits.
	generation uint32
	upTo       uint64
	err        error // it cannot go on: a newer version wrote what it got
}

// A voter that does not answer in time is not asked again at once: what the others know by then counts within a second or two.
const (
	feedTime  = feedPatience + 500*time.Millisecond
	feedAgain = 100 * time.Millisecond
)

// follower brings a member's table up to date. The table is the member's; the follower only knows how far it has come.
type follower struct {
	m      *Resident
	q      question
	pages  []byte // of a snapshot that was begun
	failed map[core.NodeID]time.Time
}

// shunned is how long a voter that failed is asked only if all others have failed more recently.
const shunned = 3 * time.Second

// follow asks one voter after another, until ctx ends.
func (m *Resident) follow(ctx context.Context) {
	f := &follower{m: m, failed: make(map[core.NodeID]time.Time)}
	for ctx.Err() == nil {
		voter, ok := f.choose()
		if !ok {
			pause(ctx, feedAgain)
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, feedTime)
		a, err := m.asker.feed(bounded, voter, f.q)
		cancel()
		if err == nil {
			m.asker.lead(a.leader)
			if a.leader.ID == "" { // it may be cut off, and know nothing new for that
				err = errBlind
			}
		}
		if err == nil || errors.Is(err, errBlind) {
			found, takeErr := f.take(&a)
			if found != nil {
				select {
				case m.news <- *found:
				case <-ctx.Done():
				}
			}
			if takeErr != nil {
				err = takeErr
			}
		}
		if err != nil && ctx.Err() == nil {
			m.log.Debug("a voter does not say what the log says", "voter", voter.ID, "err", err)
			f.failed[voter.ID] = time.Now()
			f.pages, f.q.snapshot, f.q.offset = nil, 0, 0
			pause(ctx, feedAgain)
		}
	}
}

var (
	errBlind = errors.New("it knows of no leader")
	errOlder = errors.New("its table is older than what is here")
	// errEndless is what no voter's table comes to.
	errEndless = fmt.Errorf("its snapshot has more than %d bytes", largestSnapshot)
)

// choose returns whom to ask: this node's own voter, if it is replicated to, then who leads, then the others; of those who failed lately the
// one that did so first.
func (f *follower) choose() (core.Member, bool) {
	all := f.m.asker.candidates()
	if o := f.m.asker.office; o != nil && o.leader().ID != "" {
		all = append([]core.Member{{ID: f.m.asker.self}}, all...)
	}
	best := -1
	for i, v := range all {
		at := f.failed[v.ID]
		if time.Since(at) >= shunned {
			return v, true
		}
		if best < 0 || at.Before(f.failed[all[best].ID]) {
			best = i
		}
	}
	if best < 0 {
		return core.Member{}, false
	}
	return all[best], true
}

// take makes news of an answer; nil: there is none yet.
func (f *follower) take(a *answer) (*news, error) {
	if a.snapshot == 0 && len(a.page) == 0 {
		if a.generation != f.q.generation {
			return nil, nil // it is behind
		}
		if len(a.records) == 0 {
			return &news{generation: a.generation, upTo: a.index}, nil
		}
		f.q.after = a.records[len(a.records)-1].index
		return &news{records: a.records, generation: a.generation}, nil
	}
	if a.offset == 0 {
		f.pages = nil
	}
	if a.offset != uint64(len(f.pages)) || a.offset != 0 && a.snapshot != f.q.snapshot { // a page from the midst of another snapshot
		f.pages, f.q.snapshot, f.q.offset = nil, 0, 0
		return nil, nil
	}
	if len(f.pages)+len(a.page) > largestSnapshot {
		f.pages, f.q.snapshot, f.q.offset = nil, 0, 0
		return nil, errEndless
	}
	f.pages = append(f.pages, a.page...)
	if f.q.snapshot, f.q.offset = a.snapshot, uint64(len(f.pages)); a.more {
		return nil, nil
	}
	table, err := core.ReadSnapshot(f.pages)
	f.pages, f.q.snapshot, f.q.offset = nil, 0, 0
	switch {
	case err != nil:
		if fatal := versionError(err); fatal != nil {
			return &news{err: fatal}, err
		}
		return nil, err
	case table.Generation() < f.q.generation || table.Generation() == f.q.generation && table.Index() < f.q.after:
		return nil, errOlder // never back
	}
	f.q.generation, f.q.after = table.Generation(), table.Index()
	return &news{table: table, generation: table.Generation()}, nil
}

const (
	askTime = time.Second
	// askNext is how long one voter is waited for before another is asked too: who leads may be gone, and a session lasts three seconds. What
	// is put into the log twice does no harm: each command says what it holds for.
	askNext = 250 * time.Millisecond
)

// reach puts commands into the log through whoever leads, and remembers who did. It gives up when ctx ends: then, and after other errors, it is
// not known what became of them.
func (a *asker) reach(ctx context.Context, entry []byte) (outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last := errNoneKnown
	for ctx.Err() == nil {
		out, err := a.round(ctx, entry)
		var refused *abi.Error
		switch {
		case err == nil:
			return out, nil
		case errors.As(err, &refused) && (refused.Code == abi.ErrDenied || refused.Code == abi.ErrInvalidArgument):
			return outcome{}, err
		}
		if ctx.Err() == nil {
			last = err
		}
		pause(ctx, feedAgain)
	}
	return outcome{}, fmt.Errorf("the voters cannot be reached: %w", last)
}

var errNoneKnown = errors.New("no voter is known")

// round asks one voter after the other, each a little after the one before, until one has put the commands into the log.
func (a *asker) round(ctx context.Context, entry []byte) (outcome, error) {
	type attempt struct {
		voter core.Member
		via   bool // to have it passed on
		out   outcome
		err   error
	}
	queue := a.candidates()
	if len(queue) == 0 {
		return outcome{}, errNoneKnown
	}
	var (
		done  = make(chan attempt, len(queue)+8)
		asked = make(map[core.NodeID]bool)
		open  = 0
		last  error
		next  = time.NewTimer(0)
		names = make(map[core.NodeID][]core.Member) // by who is said to lead: voters that say so
		lost  = make(map[core.NodeID]bool)          // whom this node does not reach
	)
	defer next.Stop()
	begin := func(voter core.Member, via bool, put func(context.Context, core.Member, []byte) (outcome, error)) {
		open++
		a.work.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			out, err := put(bounded, voter, entry)
			done <- attempt{voter, via, out, err}
		})
	}
	// around has commands for a leader that is not reached passed on by one of those who name it.
	around := func(leader core.NodeID) {
		if voters := names[leader]; lost[leader] && len(voters) > 0 {
			names[leader] = voters[1:]
			begin(voters[0], true, a.passOn)
		}
	}
	for len(queue) > 0 || open > 0 {
		var turn <-chan time.Time
		if len(queue) > 0 {
			turn = next.C
		}
		select {
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		case <-turn:
			voter := queue[0]
			if queue = queue[1:]; asked[voter.ID] {
				next.Reset(0)
				continue
			}
			asked[voter.ID] = true
			begin(voter, false, a.propose)
			next.Reset(askNext)
		case t := <-done:
			open--
			switch {
			case t.err == nil && t.out.led:
				if !t.via {
					a.lead(t.voter)
				}
				return t.out, nil
			case t.via && t.err == nil:
				last = fmt.Errorf("node %s has passed it on to one that does not lead the voters any more", t.voter.ID)
			case t.via:
				last = fmt.Errorf("node %s was to pass it on: %w", t.voter.ID, t.err)
				for l := range lost {
					around(l)
				}
			case t.err == nil:
				last = fmt.Errorf("node %s does not lead the voters", t.voter.ID)
				l := t.out.leader
				// A voter may take this node for the leader that an earlier run of it was, and there is no voter here now.
				if l.ID != "" && !asked[l.ID] && (l.ID != a.self || a.office != nil) {
					queue = append([]core.Member{l}, queue...)
				}
				if t.voter.ID != a.self {
					names[l.ID] = append(names[l.ID], t.voter)
					around(l.ID)
				}
			default:
				last = t.err
				lost[t.voter.ID] = unreached(t.err)
				around(t.voter.ID)
				if l := a.leader.Load(); l != nil && l.ID == t.voter.ID {
					a.leader.CompareAndSwap(l, nil)
				}
			}
			next.Reset(0)
		}
	}
	return outcome{}, last
}

// lead notes who leads the voters.
func (a *asker) lead(m core.Member) {
	if l := a.leader.Load(); m.ID != "" && (l == nil || *l != m) {
		a.leader.Store(&m)
	}
}

// leading returns who leads the voters as far as this node knows.
func (a *asker) leading() core.Member {
	if l := a.leader.Load(); l != nil {
		return *l
	}
	return core.Member{}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
