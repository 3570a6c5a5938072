package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// VoterConfig is what a [Voter] is made from.
type VoterConfig struct {
	// Dir is the node's data directory; the voter's files are in DIR/raft. Required.
	Dir string
	// Cluster is the name of the cluster, as the node's certificate has it. Required.
	Cluster string
	// Self and Authority are this node and the host:port of its link. Required.
	Self      core.NodeID
	Authority string
	// Voters is the list of the operator (--voters), which counts when the log begins, and not any more then. Nil: this node has a log
	// already, or is to be added to one by [Voter.Add].
	Voters []core.Member
	// AllowEven takes a list of an even number of voters: two stop when either is lost, and four bear no more than three.
	AllowEven bool
	// Machine is what the log is about. Required.
	Machine Machine
	// Network reaches other nodes: the link. Required.
	Network Network
	// Port is where other nodes reach the voter: its services and streams are in the link's configuration. Required.
	Port *Port
	// Resolve says where a node's link is now, if that is known. It is called often, and must not wait. Nil: voters stay where they
	// were when they became voters.
	Resolve func(core.NodeID) (authority string, ok bool)

	// Heartbeat is how long a voter bears not to hear of a leader before it wants to know, Election how long an election may take, and
	// Lease how long a leader leads without hearing of a majority. 0 is 400 ms for each; Lease ≤ Heartbeat ≤ Election.
	Heartbeat, Election, Lease time.Duration
	// Commit bounds how late a voter that does not lead applies an entry of a quiet log; 0 is 5 ms.
	Commit time.Duration
	// MaxEntry bounds an entry, in bytes; 0 is 1 MiB.
	MaxEntry int
	// SnapshotEvery is how many entries there are between two snapshots, and Trailing how many are kept beyond one, for voters that lag
	// behind; 0 is 8,192 and 10,240.
	SnapshotEvery, Trailing uint64
	// SnapshotCheck is how often it is seen whether a snapshot is due; 0 is 30 s.
	SnapshotCheck time.Duration
	// Log takes the log; nil is slog.Default().
	Log *slog.Logger

	seam seam
}

const (
	defaultTimeout       = 400 * time.Millisecond // with 500 a new leader took up to 2.3 s, and a session lasts 3
	defaultCommit        = 5 * time.Millisecond
	defaultMaxEntry      = 1 << 20
	defaultSnapshotEvery = 8192
	defaultTrailing      = 10240
	defaultSnapshotCheck = 30 * time.Second

	// raft's own default of 64 entries in one message; with MaxEntry it bounds what a message weighs.
	maxAppend = 64
)

func (c VoterConfig) checked() (VoterConfig, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Dir == "" {
		fault("Dir is missing: a voter keeps its log in the node's data directory; name one")
	}
	if c.Cluster == "" {
		fault("Cluster is missing")
	}
	if err := core.CheckNodeID(c.Self); err != nil {
		fault("Self %.100q: %w", c.Self, err)
	}
	if err := core.CheckAuthority(c.Authority); err != nil {
		fault("Authority %.100q: %w", c.Authority, err)
	}
	if c.Machine == nil || c.Network == nil || c.Port == nil {
		fault("Machine, Network or Port is missing")
	}
	if c.Resolve == nil {
		c.Resolve = func(core.NodeID) (string, bool) { return "", false }
	}
	for _, t := range []struct {
		name string
		v    *time.Duration
		zero time.Duration
	}{{"Heartbeat", &c.Heartbeat, defaultTimeout}, {"Election", &c.Election, defaultTimeout}, {"Lease", &c.Lease, defaultTimeout},
		{"Commit", &c.Commit, defaultCommit}, {"SnapshotCheck", &c.SnapshotCheck, defaultSnapshotCheck}} {
		if *t.v < 0 {
			fault("%s %s is negative", t.name, *t.v)
		}
		if *t.v == 0 {
			*t.v = t.zero
		}
	}
	if c.MaxEntry < 0 || c.MaxEntry > 1<<24 {
		fault("MaxEntry %d is not within 0 and %d", c.MaxEntry, 1<<24)
	}
	if c.MaxEntry == 0 {
		c.MaxEntry = defaultMaxEntry
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = defaultSnapshotEvery
	}
	if c.Trailing == 0 {
		c.Trailing = defaultTrailing
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Voters != nil {
		voters, err := checkVoters(c.Voters)
		if err != nil {
			faults = append(faults, err)
		}
		c.Voters = voters
	}
	return c, errors.Join(faults...)
}

// raft is the configuration in raft's words.
func (c *VoterConfig) raft(id RaftID) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = id.server()
	r.HeartbeatTimeout, r.ElectionTimeout, r.LeaderLeaseTimeout = c.Heartbeat, c.Election, c.Lease
	r.CommitTimeout = c.Commit
	r.MaxAppendEntries = maxAppend
	r.SnapshotThreshold, r.TrailingLogs, r.SnapshotInterval = c.SnapshotEvery, c.Trailing, c.SnapshotCheck
	r.ShutdownOnRemove = false // a voter that was removed says so, and can be added again
	r.NoLegacyTelemetry = true
	r.Logger = newLogger(c.Log, "")
	// BatchApplyCh stays off: proposals that wait are taken together all the same, and one that lay in the buffer when raft ended would
	// be answered never.
	return r
}

// checkVoters checks a list and returns it in order.
func checkVoters(list []core.Member) ([]core.Member, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b core.Member) int { return strings.Compare(string(a.ID), string(b.ID)) })
	text := formatVoters(list)
	if len(list) == 0 || len(list) > maxVoters {
		return nil, refuse(ErrRefused, "a list of %d voters: name three or five (--voters a=host:port,b=host:port,c=host:port)", len(list))
	}
	at := make(map[string]core.NodeID)
	for i, m := range list {
		if err := core.CheckNodeID(m.ID); err != nil {
			return nil, refuse(ErrRefused, "the list of voters %s names node %.100q: %v", text, m.ID, err)
		}
		if err := core.CheckAuthority(m.Authority); err != nil || strings.HasSuffix(m.Authority, ":0") {
			return nil, refuse(ErrRefused, "the list of voters %s has the address %.100q for node %s: it is host:port of the node's link, "+
				"an IPv6 host in brackets, and the port is not 0", text, m.Authority, m.ID)
		}
		if i > 0 && list[i-1].ID == m.ID {
			return nil, refuse(ErrRefused, "the list of voters %s names node %s twice", text, m.ID)
		}
		if other, ok := at[m.Authority]; ok {
			return nil, refuse(ErrRefused, "the list of voters %s has the address %s for nodes %s and %s", text, m.Authority, other, m.ID)
		}
		at[m.Authority] = m.ID
	}
	return list, nil
}

// formatVoters is a list in the form of the flag.
func formatVoters(list []core.Member) string {
	parts := make([]string, len(list))
	for i, m := range list {
		parts[i] = string(m.ID) + "=" + m.Authority
	}
	return strings.Join(parts, ",")
}

// ParseVoters reads id=host:port,… as the flag --voters has it, sorted by id.
func ParseVoters(s string) ([]core.Member, error) {
	var list []core.Member
	for part := range strings.SplitSeq(s, ",") {
		id, authority, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, refuse(ErrRefused, "%.100q in the list of voters is not ID=HOST:PORT", part)
		}
		list = append(list, core.Member{ID: core.NodeID(id), Authority: authority})
	}
	return checkVoters(list)
}
