package consensus

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// standing is what a voter knows when it judges a request. The zero value knows nothing, and is no reason to refuse anything.
type standing struct {
	term    uint64
	leader  raft.ServerID                     // heard of within the last timeouts, or this voter; "" if none is
	members []raft.Server                     // of the last configuration, committed or not; none: this voter is new
	agreed  uint64                            // entries up to this one are, as far as this voter knows, on a majority's disks
	termOf  func(index uint64) (uint64, bool) // of an entry that this voter has; nil: of none
}

// standing looks at raft. Nothing here goes back but the leader and the members, so what has changed by the time that raft has the request makes the
// judgement milder than it could be, or, where a leader was lost or a member came, has it asked again.
func (d *disk) standing() standing {
	r := d.raft.Load()
	if r == nil {
		return standing{}
	}
	s := standing{term: r.CurrentTerm(), members: r.GetConfiguration().Configuration().Servers, agreed: max(r.CommitIndex(), r.AppliedIndex()), termOf: d.termOf}
	_, s.leader = r.LeaderWithID()
	return s
}

// termOf returns the term of an entry that is in the log, or ends the newest snapshot.
func (d *disk) termOf(index uint64) (uint64, bool) {
	var l raft.Log
	if err := d.cache.GetLog(index, &l); err == nil {
		return l.Term, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.extent.term, index == d.extent.index
}

const (
	// No elections raise the term by so much: one a second would take a century. A term is for ever, and the highest number has no next.
	longestJump = 1 << 32

	// largestSnapshot, in bytes, is far above any table's, and below what a disk or a machine is brought down by.
	largestSnapshot = 1 << 30
)

// judge says what is wrong with a request that came over a stream of a voter, or of a node that says to have one. Raft bears voters that are slow,
// gone, or back with an old log. It does not bear what these never send; that must not come through:
//
//   - what is said for another. Whose stream it is the certificate says, so a member lies for itself at most.
//   - what would have raft panic, or this voter's log take entries that do not follow one another: a fault that the disk is then blamed for.
//   - what takes back an entry that a majority has.
//   - what a node outside of the configuration asks while this voter has a leader, or is it. A voter that was away may know none of those
//     who vote now; but then it knows no leader either, at the latest some timeouts later. Who is new believes everybody.
func (s standing) judge(from RaftID, command any) error {
	head, ok := command.(raft.WithRPCHeader)
	if !ok {
		return fmt.Errorf("a request of a kind that is not known (%T)", command)
	}
	if err := ofItself(from, head.GetRPCHeader()); err != nil {
		return err
	}
	switch m := command.(type) {
	case *raft.AppendEntriesRequest:
		if err := s.leads(from, m.Term); err != nil {
			return err
		}
		return s.entries(m)
	case *raft.InstallSnapshotRequest:
		if err := s.leads(from, m.Term); err != nil {
			return err
		}
		return s.snapshot(m)
	case *raft.RequestVoteRequest: // raft knows whom not to vote for
		return s.jump(m.Term)
	case *raft.RequestPreVoteRequest:
		return s.jump(m.Term)
	case *raft.TimeoutNowRequest:
		// Without a configuration it would be a candidate for ever. Whoever leads has seen to it that this voter has the last entry before it asks.
		if !s.member(from) {
			return errors.New("it hands over a leadership that it cannot have: it is no voter of this one's configuration")
		}
		return nil
	}
	return fmt.Errorf("a request of a kind that is not known (%T)", command)
}

// ofItself says what is wrong with whom a request is said to be of. Raft believes the address where there is one, and the id where there is one.
func ofItself(from RaftID, head raft.RPCHeader) error {
	id, _, err := parseAddress(raft.ServerAddress(head.Addr))
	switch {
	case string(head.ID) != from.String():
		return fmt.Errorf("it is said to be of voter %.100q, and the stream is of %s", head.ID, from)
	case err != nil || id != from:
		return fmt.Errorf("it is said to be of the voter at %.200q, and the stream is of %s", head.Addr, from)
	}
	return nil
}

func (s standing) jump(term uint64) error {
	if term > s.term && term-s.term > longestJump {
		return fmt.Errorf("its term is %d, and this voter's is %d: no elections come to that", term, s.term)
	}
	return nil
}

func (s standing) member(id RaftID) bool {
	return slices.ContainsFunc(s.members, func(m raft.Server) bool { return m.ID == id.server() })
}

// leads says why a voter cannot lead.
func (s standing) leads(from RaftID, term uint64) error {
	if s.leader != "" && s.leader != from.server() && len(s.members) > 0 && !s.member(from) {
		return fmt.Errorf("it is no voter of this one's configuration, and says that it leads; the leader is %s", s.leader)
	}
	return s.jump(term)
}

func (s standing) entries(m *raft.AppendEntriesRequest) error {
	term := m.PrevLogTerm
	for i, l := range m.Entries {
		want := m.PrevLogEntry + 1 + uint64(i)
		switch {
		case l == nil:
			return fmt.Errorf("number %d of the entries after %d is none", i+1, m.PrevLogEntry)
		case l.Index != want || l.Index == 0:
			return fmt.Errorf("number %d of the entries after %d is entry %d: out of order", i+1, m.PrevLogEntry, l.Index)
		case l.Term < term || l.Term == 0 || l.Term > m.Term:
			return fmt.Errorf("entry %d is of term %d, after one of term %d, from a leader of term %d", l.Index, l.Term, term, m.Term)
		}
		if err := checkEntry(l); err != nil {
			return err
		}
		if l.Index <= s.agreed && s.termOf != nil {
			if ours, known := s.termOf(l.Index); known && ours != l.Term {
				return fmt.Errorf("entry %d is of term %d, and a majority has one of term %d in its place", l.Index, l.Term, ours)
			}
		}
		term = l.Term
	}
	return nil
}

func (s standing) snapshot(m *raft.InstallSnapshotRequest) error {
	switch {
	case m.SnapshotVersion != raft.SnapshotVersionMax:
		return fmt.Errorf("the snapshot of entry %d is of version %d, and this voter reads %d", m.LastLogIndex, m.SnapshotVersion, raft.SnapshotVersionMax)
	case m.Size < 0 || m.Size > largestSnapshot:
		return fmt.Errorf("the snapshot of entry %d has %d bytes", m.LastLogIndex, m.Size)
	case m.LastLogIndex == 0 || m.LastLogTerm == 0 || m.LastLogTerm > m.Term || m.ConfigurationIndex > m.LastLogIndex:
		return fmt.Errorf("the snapshot of entry %d is of term %d, with the configuration of entry %d, from a leader of term %d",
			m.LastLogIndex, m.LastLogTerm, m.ConfigurationIndex, m.Term)
	}
	if err := checkConfiguration(m.Configuration); err != nil {
		return fmt.Errorf("the snapshot of entry %d has %w", m.LastLogIndex, err)
	}
	if s.termOf != nil && m.LastLogIndex <= s.agreed {
		if ours, known := s.termOf(m.LastLogIndex); known && ours != m.LastLogTerm {
			return fmt.Errorf("the snapshot ends with entry %d of term %d, and a majority has one of term %d in its place", m.LastLogIndex, m.LastLogTerm, ours)
		}
	}
	return nil
}
