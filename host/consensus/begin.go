package consensus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// verdict is what follows from the hellos of the others for a voter without a log.
type verdict struct {
	missing []core.NodeID // who has not answered; with the reasons below empty, wait for them
	begin   []RaftID      // write the first entry, with these
	await   bool          // the log is, or will be, another's to begin, and names this voter
	outside []string      // there is a log, of these voters, and this one is not among them
	refused error         // this cannot be
}

// judge decides how the log begins. self has no log; answers are those of one round, of the voters of list but self.
func judge(self hello, list []core.Member, answers map[core.NodeID]hello) verdict {
	var v verdict
	ids := []RaftID{self.id}
	for _, m := range list { // in order of ids, so that of several faults the same is reported each time
		a, ok := answers[m.ID]
		switch {
		case m.ID == self.id.Node:
			continue
		case !ok:
			v.missing = append(v.missing, m.ID)
			continue
		case a.begun:
			if slices.Contains(a.members, self.id.String()) {
				return verdict{await: true}
			}
			if v.outside == nil {
				v.outside = a.members
			}
			continue
		case a.list != self.list && v.refused == nil:
			v.refused = refuse(ErrRefused, "the voters' lists contradict each other: node %s has %s (%s), and node %s has %s (%s). "+
				"Give all voters the same --voters, and start them again", self.id.Node, quoteList(self.list), listHash(self.list),
				m.ID, quoteList(a.list), listHash(a.list))
		}
		ids = append(ids, a.id)
	}
	switch {
	case v.outside != nil: // a log that exists counts more than any list
		return verdict{outside: v.outside}
	case v.refused != nil:
		return verdict{refused: v.refused}
	case v.missing != nil:
		return verdict{missing: v.missing}
	case list[0].ID != self.id.Node:
		return verdict{await: true}
	}
	slices.SortFunc(ids, func(a, b RaftID) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return verdict{begin: ids}
}

func quoteList(list string) string {
	if list == "" {
		return "none"
	}
	return list
}

const (
	roundGap    = 300 * time.Millisecond // between two rounds of hellos
	calmGap     = 2 * time.Second        // the same when there is nothing to be decided
	helloTime   = 2 * time.Second
	progressGap = 5 * time.Second // between two lines of the log about who is missing
)

// begin sees to it that a voter without a log gets one. It ends when there is one, when it is clear that there will not be, or with ctx.
func (v *Voter) begin(ctx context.Context) {
	var reported time.Time
	var outside bool
	for round := 0; ; round++ {
		if v.configured() {
			v.setState("")
			return
		}
		self := v.hello()
		answers, errs := v.ask(ctx, v.cfg.Voters)
		if ctx.Err() != nil {
			return
		}
		j := judge(self, v.cfg.Voters, answers)
		gap := roundGap
		switch {
		case j.refused != nil:
			v.fail(j.refused)
			return
		case j.outside != nil:
			gap = calmGap
			v.setState("")
			if !outside {
				outside = true
				v.log.Warn("this node is not a voter: there is a log of which it is no part, because it is new, or has lost its disk. "+
					"It takes no part until it is added", "voters", j.outside, "do", howToJoin(v.id, j.outside))
			}
		case j.begin != nil:
			if err := v.writeFirst(j.begin); err != nil && !v.configured() {
				if v.disk.failure() != nil {
					return // guard says what it is
				}
				v.fail(fmt.Errorf("the voters' log cannot be begun: %w", err))
				return
			}
			v.log.Info("the voters' log begins", "voters", j.begin)
			v.setState("")
			return
		case j.await:
			v.setState(Waiting)
		default:
			v.setState(Waiting)
			if time.Since(reported) >= progressGap && round > 0 {
				reported = time.Now()
				args := []any{"missing", j.missing, "of", formatVoters(v.cfg.Voters)}
				for _, id := range j.missing {
					args = append(args, "why_"+string(id), errs[id])
				}
				v.log.Info("the voters' log cannot begin before all voters have answered", args...)
			}
		}
		t := time.NewTimer(gap)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// howToJoin is what an operator does about a node that is not a voter.
func howToJoin(id RaftID, members []string) string {
	for _, m := range members {
		if old, err := ParseRaftID(m); err == nil && old.Node == id.Node {
			return fmt.Sprintf("`wasilo voters rm %s --even` and then `wasilo voters add %s`", old, id.Node)
		}
	}
	return fmt.Sprintf("`wasilo voters add %s`", id.Node)
}

// writeFirst writes the first entry of the log.
func (v *Voter) writeFirst(ids []RaftID) error {
	var c raft.Configuration
	for _, id := range ids {
		i := slices.IndexFunc(v.cfg.Voters, func(m core.Member) bool { return m.ID == id.Node })
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: id.server(), Address: id.address(v.cfg.Voters[i].Authority)})
	}
	v.disk.beginning(true)
	defer v.disk.beginning(false)
	return v.raft.BootstrapCluster(c).Error()
}

// ask says hello to nodes, all at once.
func (v *Voter) ask(ctx context.Context, nodes []core.Member) (map[core.NodeID]hello, map[core.NodeID]error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	answers, errs := make(map[core.NodeID]hello), make(map[core.NodeID]error)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range nodes {
		if m.ID == v.id.Node {
			continue
		}
		wg.Go(func() {
			h, err := v.askOne(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[m.ID] = err
				return
			}
			answers[m.ID] = h
		})
	}
	wg.Wait()
	return answers, errs
}

func (v *Voter) askOne(ctx context.Context, m core.Member) (hello, error) {
	if authority, ok := v.cfg.Resolve(m.ID); ok {
		m.Authority = authority
	}
	b, err := v.cfg.Network.Ask(ctx, m, helloService, nil)
	if err != nil {
		return hello{}, err
	}
	h, err := readHello(b)
	if err == nil && h.id.Node != m.ID {
		err = fmt.Errorf("node %s says that it is voter %s", m.ID, h.id)
	}
	if err != nil {
		return hello{}, fmt.Errorf("the answer of node %s makes no sense: %w", m.ID, err)
	}
	return h, nil
}
