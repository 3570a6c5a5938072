package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// Leadership is who leads, as this voter knows it.
type Leadership struct {
	Term      uint64      // it grows with every election; two Leaderships of one term have the same leader, or none yet
	Leading   bool        // this voter leads, and has led since Term began
	Leader    core.NodeID // "" if none is known
	Authority string      // of the leader's link
}

// Leadership returns who leads now, and a channel that is closed when that is not so any more. Whoever calls it again after that sees
// the last state always, and may miss one in between: what was lost and won again shows by Term.
//
// A voter that leads may have been deposed without knowing it yet: only what [Voter.Propose] or [Voter.Barrier] returns is certain.
func (v *Voter) Leadership() (Leadership, <-chan struct{}) { return v.lead.get() }

// Leader returns the node that leads and where its link is, if known.
func (v *Voter) Leader() (node core.NodeID, authority string, known bool) {
	l, _ := v.lead.get()
	return l.Leader, l.Authority, l.Leader != ""
}

// board holds a Leadership for all who want to know.
type board struct {
	mu      sync.Mutex
	now     Leadership
	changed chan struct{}
}

func (b *board) get() (Leadership, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.now, b.changed
}

func (b *board) set(l Leadership) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == l {
		return
	}
	b.now = l
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// follow keeps the board up to date until raft ends. Observations only wake it: one that finds the channel full is one that will be
// seen, since what was seen is read after the channel was emptied.
func (v *Voter) follow(ctx context.Context, wake <-chan raft.Observation) {
	for {
		v.lead.set(v.leadership())
		select {
		case <-wake:
		case <-v.raft.LeaderCh():
		case <-ctx.Done():
			v.lead.set(Leadership{Term: v.raft.CurrentTerm()})
			return
		}
	}
}

// leadership reads raft's state, which has no lock around all of it.
func (v *Voter) leadership() Leadership {
	for {
		l := Leadership{Term: v.raft.CurrentTerm(), Leading: v.raft.State() == raft.Leader}
		address, _ := v.raft.LeaderWithID()
		if l.Leading {
			l.Leader, l.Authority = v.id.Node, v.cfg.Authority
		} else if id, authority, err := parseAddress(address); err == nil {
			l.Leader, l.Authority = id.Node, authority
		}
		if v.raft.CurrentTerm() == l.Term && (v.raft.State() == raft.Leader) == l.Leading {
			return l
		}
	}
}

// Transfer gives the leadership to another voter, as a node does before it leaves. It does nothing on one that does not lead. The error
// is [ErrRefused] if there is nobody to lead, and otherwise says why no voter took it within the election timeout; this voter leads on.
func (v *Voter) Transfer(ctx context.Context) error {
	if err := v.usable(); err != nil {
		return err
	}
	if v.raft.State() != raft.Leader {
		return nil
	}
	if len(v.raft.GetConfiguration().Configuration().Servers) < 2 {
		return refuse(ErrRefused, "voter %s is the only one: there is nobody to lead in its place", v.id)
	}
	err := v.wait(ctx, func() raft.Future { return v.raft.LeadershipTransfer() }, func() {})
	switch {
	case err == nil, errors.Is(err, raft.ErrNotLeader):
		return nil
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return refuse(ErrChangeRunning, "the leadership is being given away already")
	}
	return fmt.Errorf("voter %s still leads: nobody took the leadership: %w", v.id, err)
}
