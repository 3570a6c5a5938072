package consensus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// Member is a voter as the configuration has it.
type Member struct {
	ID        RaftID
	Authority string // of its node's link, where it is now if that is known
	Leading   bool   // as far as this voter knows
}

// Voters returns the voters of the last configuration, sorted by id, and the index of the last one that is committed.
func (v *Voter) Voters() (members []Member, index uint64) {
	index, servers := v.members()
	leader, _, _ := v.Leader()
	for _, s := range servers {
		id, authority, err := parseAddress(s.Address)
		if err != nil {
			continue // written by nobody of ours
		}
		if now, ok := v.layer.where(id); ok {
			authority = now
		}
		members = append(members, Member{ID: id, Authority: authority, Leading: id.Node == leader})
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return members, index
}

// Add makes a node a voter: one that runs, and has opened its voter without a log, or with what it had when it was removed. The node is
// asked for its raft id first. It counts at once, and catches up meanwhile. It returns when the change is committed.
//
// Errors: [ErrNotLeader], [ErrClosed] and [ErrOutcomeUnknown] as of [Voter.Propose]; [ErrChangeRunning]; [ErrEvenVoters] unless even is
// set; [ErrRefused] for a node that is a voter already, or of another log, or where too few would answer afterwards, and with what to do
// first. A node that does not answer is the error of the link.
func (v *Voter) Add(ctx context.Context, node core.Member, even bool) (RaftID, error) {
	if _, err := checkVoters([]core.Member{node}); err != nil {
		return RaftID{}, err
	}
	var added RaftID
	err := v.change(ctx, func(index uint64, members []Member) (func() raft.Future, error) {
		for _, m := range members {
			if m.ID.Node == node.ID {
				return nil, refuse(ErrRefused, "node %s is a voter already, as %s. If it has lost its disk, run `wasilo voters rm %s --even` first",
					node.ID, m.ID, m.ID)
			}
		}
		if n := len(members) + 1; n%2 == 0 && !even {
			return nil, refuse(ErrEvenVoters, "with node %s there would be %d voters: an even number bears no more losses than one less. "+
				"If another one is added or removed right after, allow it with --even", node.ID, n)
		}
		h, err := v.askOne(ctx, node)
		if err != nil {
			return nil, fmt.Errorf("node %s cannot be added, since it does not answer: %w", node.ID, err)
		}
		ours := func(m string) bool {
			return slices.ContainsFunc(members, func(k Member) bool { return k.ID.String() == m })
		}
		if h.begun && !slices.ContainsFunc(h.members, ours) {
			return nil, refuse(ErrRefused, "node %s has a log of other voters (%s), of before the voters were recovered, or of another cluster. It must not go on: "+
				"stop the node, move its DIR/raft away, and start it again", node.ID, strings.Join(h.members, ", "))
		}
		if err := v.wouldGoOn(ctx, append(members, Member{ID: h.id, Authority: node.Authority})); err != nil {
			return nil, err
		}
		added = h.id
		return func() raft.Future {
			return v.raft.AddVoter(h.id.server(), h.id.address(node.Authority), index, v.enqueue(ctx))
		}, nil
	})
	if err != nil {
		return RaftID{}, err
	}
	v.log.Info("a voter was added", "added", added)
	return added, nil
}

// Remove takes a voter's vote away: which is its node's id, or its raft id. It may be this one, which then leads no more. It returns
// when the change is committed. Errors are those of [Voter.Add].
func (v *Voter) Remove(ctx context.Context, which string, even bool) (RaftID, error) {
	var removed RaftID
	err := v.change(ctx, func(index uint64, members []Member) (func() raft.Future, error) {
		var names []string
		found := -1
		for i, m := range members {
			names = append(names, m.ID.String())
			if m.ID.String() == which || string(m.ID.Node) == which {
				found = i
			}
		}
		n := len(members) - 1
		switch {
		case found < 0:
			return nil, refuse(ErrRefused, "%.100q is no voter; the voters are %s", which, strings.Join(names, ", "))
		case n == 0:
			return nil, refuse(ErrRefused, "%s is the last voter: add another one first", names[0])
		case n%2 == 0 && !even:
			return nil, refuse(ErrEvenVoters, "without %s there would be %d voters: an even number bears no more losses than one less. "+
				"If another one is added or removed right after, allow it with --even", names[found], n)
		}
		removed = members[found].ID
		if err := v.wouldGoOn(ctx, slices.Delete(slices.Clone(members), found, found+1)); err != nil {
			return nil, err
		}
		return func() raft.Future { return v.raft.RemoveServer(removed.server(), index, v.enqueue(ctx)) }, nil
	})
	if err != nil {
		return RaftID{}, err
	}
	v.log.Info("a voter was removed", "removed", removed)
	return removed, nil
}

// wouldGoOn asks the voters that there would be, and says who does not answer, if the others are no majority: raft goes by a new configuration at
// once, so that one could not even be committed, and there would never be a leader again who could change it.
func (v *Voter) wouldGoOn(ctx context.Context, members []Member) error {
	var nodes []core.Member
	for _, m := range members {
		nodes = append(nodes, core.Member{ID: m.ID.Node, Authority: m.Authority})
	}
	answers, errs := v.ask(ctx, nodes)
	if err := ctx.Err(); err != nil {
		return err
	}
	var missing []string
	for _, m := range members {
		h, ok := answers[m.ID.Node]
		switch {
		case m.ID == v.id:
		case !ok:
			missing = append(missing, fmt.Sprintf("%s does not answer (%v)", m.ID, errs[m.ID.Node]))
		case h.id != m.ID:
			missing = append(missing, fmt.Sprintf("%s has lost its disk, and is %s", m.ID, h.id))
		case h.failed:
			missing = append(missing, fmt.Sprintf("%s has failed", m.ID))
		}
	}
	if n := len(members); len(missing) >= (n+1)/2 {
		return refuse(ErrRefused, "of the %d voters that there would be, too few are there for a majority, and the log would stand still for good: %s. "+
			"Start them again first, or remove what is lost with `wasilo voters rm`", n, strings.Join(missing, "; "))
	}
	return nil
}

// change changes the voters, one change at a time. prepare judges it and returns the call that makes it.
func (v *Voter) change(ctx context.Context, prepare func(index uint64, members []Member) (func() raft.Future, error)) error {
	if err := v.usable(); err != nil {
		return err
	}
	if !v.changes.TryLock() {
		return refuse(ErrChangeRunning, "the voters are being changed already: wait for that to end, and look with `wasilo voters list`")
	}
	release := sync.OnceFunc(v.changes.Unlock)
	if v.raft.State() != raft.Leader {
		release()
		return v.outcome(raft.ErrNotLeader)
	}
	members, index := v.Voters()
	call, err := prepare(index, members)
	if err != nil {
		release()
		return err
	}
	err = v.wait(ctx, call, release) // when ctx ends first, the change goes on, and the next one is refused until it has ended
	if err != nil && strings.HasPrefix(err.Error(), "configuration changed since") {
		return refuse(ErrChangeRunning, "the voters were changed meanwhile: look with `wasilo voters list`, and try again")
	}
	return v.outcome(err)
}
