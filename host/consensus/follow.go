package consensus

import (
	"context"
	"fmt"
	"time"

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

// candidates are the voters in the order in which to ask them: first the one given, if it is any.
func (a *asker) candidates(first core.Member) []core.Member {
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
	add(first)
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

// news is what a follower brings: entries, or a table in place of the one there is.
type news struct {
	records []record
	table   *core.Table
	leader  core.Member
	err     error // it cannot go on: a newer version wrote what it got
}

const (
	feedTime  = feedPatience + 2*time.Second
	feedAgain = 100 * time.Millisecond // after a voter that did not answer
)

// follow brings the member's table up to date, from one voter after another, until ctx ends. The table is the member's; follow only knows how
// far it has come.
func (m *Resident) follow(ctx context.Context) {
	var (
		q      question
		pages  []byte
		leader core.Member
	)
	for n := 0; ctx.Err() == nil; {
		all := m.asker.candidates(leader)
		if m.asker.office != nil && m.asker.office.leader().ID != "" {
			all = append([]core.Member{{ID: m.asker.self}}, all...) // it is replicated to: nobody is nearer
		}
		if len(all) == 0 {
			pause(ctx, feedAgain)
			continue
		}
		voter := all[n%len(all)]
		bounded, cancel := context.WithTimeout(ctx, feedTime)
		a, err := m.asker.feed(bounded, voter, q)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				m.log.Debug("a voter did not say what the log says", "voter", voter.ID, "err", err)
			}
			n, leader, pages, q.snapshot, q.offset = n+1, core.Member{}, nil, 0, 0
			pause(ctx, feedAgain)
			continue
		}
		leader = a.leader
		if n > 0 && leader.ID != "" {
			n = 0
		}
		found := news{leader: a.leader}
		switch {
		case a.snapshot != 0 || a.page != nil && len(a.page) > 0:
			if a.offset != uint64(len(pages)) || q.snapshot != 0 && q.snapshot != a.snapshot {
				pages = nil
			}
			if a.offset != uint64(len(pages)) { // a page from the midst of another snapshot
				q.snapshot, q.offset = 0, 0
				continue
			}
			pages = append(pages, a.page...)
			q.snapshot, q.offset = a.snapshot, uint64(len(pages))
			if a.more {
				continue
			}
			table, err := core.ReadSnapshot(pages)
			pages, q.snapshot, q.offset = nil, 0, 0
			if err != nil {
				m.log.Error("what a voter sent as the table cannot be read", "voter", voter.ID, "err", err)
				found.err = versionError(err)
				n++
				pause(ctx, feedAgain)
				if found.err == nil {
					continue
				}
				break
			}
			if table.Generation() < q.generation || table.Generation() == q.generation && table.Index() < q.after {
				n++ // never back
				pause(ctx, feedAgain)
				continue
			}
			found.table = table
			q.generation, q.after = table.Generation(), table.Index()
		case len(a.records) > 0:
			found.records = a.records
			q.after = a.records[len(a.records)-1].index
		}
		select {
		case m.news <- found:
		case <-ctx.Done():
		}
	}
}

// reach puts commands into the log through whoever leads. It gives up when ctx ends: then, and after other errors, it is not known what
// became of them.
func (a *asker) reach(ctx context.Context, leader core.Member, entry []byte) (outcome, error) {
	last := fmt.Errorf("no voter is known")
	for n := 0; ctx.Err() == nil; n++ {
		for _, voter := range a.candidates(leader) {
			attempt, cancel := context.WithTimeout(ctx, askTime)
			out, err := a.propose(attempt, voter, entry)
			cancel()
			if err == nil && out.led {
				return out, nil
			}
			if err == nil {
				err = fmt.Errorf("node %s does not lead the voters", voter.ID)
				if out.leader.ID != "" && out.leader.ID != voter.ID && out.leader.ID != leader.ID {
					leader = out.leader
					last = err
					break
				}
			}
			last = err
			if ctx.Err() != nil {
				break
			}
		}
		pause(ctx, feedAgain)
	}
	return outcome{}, fmt.Errorf("the voters cannot be reached: %w", last)
}

const askTime = time.Second

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
