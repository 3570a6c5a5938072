package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// QuorumCounts is how a node of a cluster with voters stands, and what has moved.
type QuorumCounts struct {
	Left       time.Duration // of the session; 0 or less: there is none that lasts
	Index      uint64        // of the node's copy of the log
	Generation uint32
	Partitions int    // owned
	Moving     int    // moves under way from and to the node
	Unrenewed  uint64 // requests for a session or for its renewal that nobody answered
	Lost       uint64 // sessions that ended before their time
	Out, In    MoveCounts
	Voter      *VoterCounts // nil: the node has none
}

// MoveCounts is what moves brought.
type MoveCounts struct{ Moves, Actors, Bytes uint64 }

// VoterCounts is how a voter stands.
type VoterCounts struct {
	Leads, Votes  bool
	Term          uint64
	Last, Applied uint64 // indices
	Proposed      uint64 // entries
	Refused       uint64 // of these, not taken
	Unknown       uint64 // of these, with an unknown outcome
	Entries       uint64 // that this voter has put into the log
	Took          time.Duration
}

var (
	descSessionLive = desc("session_live", "1 while the node's session with the voters lasts, so that its actors may run.")
	descSessionLeft = desc("session_left_seconds", "How long the session lasts unless it is renewed.")
	descUnrenewed   = desc("session_unrenewed_total", "Requests for a session, or for its renewal, that nobody answered.")
	descLost        = desc("sessions_lost_total", "Sessions that ended before their time: every activation ended with them.")
	descLogIndex    = desc("log_index", "Index of the node's copy of the voters' log.")
	descGeneration  = desc("log_generation", "How many lives the voters' log has had.")
	descPartitions  = desc("partitions_owned", "Partitions that the node owns, of all placement groups.")
	descMoving      = desc("moves_under_way", "Moves of actors from and to the node that are under way.")
	descMoves       = desc("moves_total", "Moves of actors that came to their end, by whether the node gave or took.", "direction")
	descMovedActors = desc("moved_actors_total", "Sleeping actors that moves took along.", "direction")
	descMovedBytes  = desc("moved_bytes_total", "Bytes of their state.", "direction")
	descLeads       = desc("voter_leads", "1 while this node's voter leads.")
	descVotes       = desc("voter_votes", "1 while this node's voter has a vote.")
	descTerm        = desc("voter_term", "Number of the last election that the voter knows of.")
	descVoterLast   = desc("voter_last_index", "Index of the voter's last entry.")
	descApplied     = desc("voter_applied_index", "Index of the last entry that the voter has applied.")
	descProposals   = desc("voter_proposals_total", "Entries proposed to the voter, and those of them that were refused or whose outcome is unknown.", "outcome")
	descEntries     = desc("voter_entries_total", "Entries that this voter has put into the log.")
	descEntryTime   = desc("voter_entries_seconds_total", "Time from the proposal of those entries until they were applied, summed up.")
)

func describeQuorum(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{descSessionLive, descSessionLeft, descUnrenewed, descLost, descLogIndex, descGeneration, descPartitions,
		descMoving, descMoves, descMovedActors, descMovedBytes, descLeads, descVotes, descTerm, descVoterLast, descApplied, descProposals, descEntries,
		descEntryTime} {
		ch <- d
	}
}

func (q *QuorumCounts) collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descSessionLive, truth(q.Left > 0))
	ch <- gauge(descSessionLeft, max(0, q.Left).Seconds())
	ch <- counter(descUnrenewed, q.Unrenewed)
	ch <- counter(descLost, q.Lost)
	ch <- gauge(descLogIndex, float64(q.Index))
	ch <- gauge(descGeneration, float64(q.Generation))
	ch <- gauge(descPartitions, float64(q.Partitions))
	ch <- gauge(descMoving, float64(q.Moving))
	q.Out.collect(ch, directionOut)
	q.In.collect(ch, directionIn)
	if q.Voter != nil {
		q.Voter.collect(ch)
	}
}

func (m *MoveCounts) collect(ch chan<- prometheus.Metric, direction string) {
	ch <- counter(descMoves, m.Moves, direction)
	ch <- counter(descMovedActors, m.Actors, direction)
	ch <- counter(descMovedBytes, m.Bytes, direction)
}

func (v *VoterCounts) collect(ch chan<- prometheus.Metric) {
	ch <- gauge(descLeads, truth(v.Leads))
	ch <- gauge(descVotes, truth(v.Votes))
	ch <- gauge(descTerm, float64(v.Term))
	ch <- gauge(descVoterLast, float64(v.Last))
	ch <- gauge(descApplied, float64(v.Applied))
	ch <- counter(descProposals, v.Proposed, "proposed")
	ch <- counter(descProposals, v.Refused, "refused")
	ch <- counter(descProposals, v.Unknown, "unknown")
	ch <- counter(descEntries, v.Entries)
	ch <- prometheus.MustNewConstMetric(descEntryTime, prometheus.CounterValue, v.Took.Seconds())
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
