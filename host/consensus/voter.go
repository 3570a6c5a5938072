package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// State is what a voter is to the log.
type State string

// The states.
const (
	Waiting  State = "waiting"     // for the other voters, so that the log can begin, or for a leader to send it
	Voting   State = "voting"      // it has a vote
	NotVoter State = "not_a_voter" // there is a log, and no vote in it for this one: it is new, was removed, or has lost its disk
	Failed   State = "failed"      // it has stopped: [Voter.Failed] said why
	Closed   State = "closed"
)

// Voter is one replica of the log. Its methods may be called from any goroutine, and not from the machine. [Voter.Close] ends what
// [OpenVoter] started.
type Voter struct {
	cfg     VoterConfig
	id      RaftID
	log     *slog.Logger
	disk    *disk
	layer   *layer
	trans   *screen
	raft    *raft.Raft
	replica *replica
	lead    board
	changes sync.Mutex // held while the voters are being changed

	ctx    context.Context // of the voter's own goroutines
	cancel context.CancelFunc
	work   sync.WaitGroup
	failed chan error
	broken chan struct{} // closed with fault
	halt   sync.Once
	over   chan struct{} // closed when Close is done

	proposed, refused, unknown atomic.Uint64

	mu      sync.Mutex
	state   State // what is known better than the configuration says: Waiting for one, or NotVoter where it is an old one; or ""
	fault   error
	closing bool // nothing is begun any more
	closed  bool // Close was called
	pending int  // calls into raft that have not returned
	idle    chan struct{}
	err     error // of Close
}

// OpenVoter opens a voter's directory, or makes it, and takes part in the log. It returns at once: a log that has to begin first does so
// in the background ([Voter.State]), and what goes wrong there comes by [Voter.Failed], as everything that ends a voter does.
//
// An error is [ErrDamaged], [ErrDisk], or [ErrRefused] for what cannot be meant: a directory of another node, cluster or time, a list
// of voters that makes no sense, or an even one ([ErrEvenVoters]); each text says what to do.
func OpenVoter(cfg VoterConfig) (*Voter, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, fmt.Errorf("the voter cannot be opened: %w", err)
	}
	v := &Voter{cfg: cfg, log: cfg.Log, failed: make(chan error, 1), broken: make(chan struct{}), over: make(chan struct{})}
	v.replica = &replica{machine: cfg.Machine}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	if err := v.open(); err != nil {
		v.cancel()
		if v.trans != nil {
			_ = v.trans.Close()
		}
		if v.disk != nil {
			_ = v.disk.close(false)
		}
		return nil, fmt.Errorf("the voter cannot be opened: %w", err)
	}
	return v, nil
}

func (v *Voter) open() error {
	var err error
	if v.disk, v.id, err = openDisk(v.cfg.Dir, v.cfg.Cluster, v.cfg.Self, v.log, v.cfg.seam); err != nil {
		return err
	}
	v.log = v.log.With("voter", v.id.String())
	v.cfg.Log = v.log
	if m, ok := v.cfg.Machine.(checker); ok {
		v.disk.check = m.CheckSnapshot
	}
	fresh, err := v.disk.unwritten()
	if err != nil {
		return v.disk.damaged(v.disk.dir, err)
	}
	if fresh {
		if err := v.mayBegin(); err != nil {
			return err
		}
	}
	v.layer = newLayer(v.id, &v.cfg)
	v.layer.fallback = v.recorded
	// One request at a time, that is, no pipelines: in v1.8.0 a leader whose pipeline was refused, by a follower that has another leader, may
	// wait for ever to send the next request, and its replication to that follower and raft's shutdown with it. Entries are proposed one at a
	// time anyhow.
	timeout := max(4*v.cfg.Heartbeat, time.Second)
	v.trans = newScreen(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: v.layer, ServerAddressProvider: v.layer,
		MaxPool: 3, MaxRPCsInFlight: 1, Timeout: timeout, Logger: newLogger(v.log, "transport")}), timeout, v.log, v.disk.standing)
	v.layer.serve = v.trans.serve
	if err := v.start(); err != nil {
		return err
	}
	if !v.cfg.Port.attach(v) {
		_ = v.raft.Shutdown().Error()
		return refuse(ErrRefused, "there is a voter behind this port already")
	}
	wake := make(chan raft.Observation, 1)
	v.raft.RegisterObserver(raft.NewObserver(wake, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		}
		return false
	}))
	v.work.Go(func() { v.follow(v.ctx, wake) })
	v.work.Go(v.guard)
	switch {
	case !fresh:
		v.compare()
		v.work.Go(func() { v.lookOut(v.ctx) })
	case v.cfg.Voters == nil:
		v.log.Warn("this node is not a voter yet", "do", howToJoin(v.id, nil))
		v.work.Go(func() { v.lookOut(v.ctx) })
	default:
		v.setState(Waiting)
		v.work.Go(func() {
			v.begin(v.ctx)
			v.lookOut(v.ctx)
		})
	}
	return nil
}

// start starts raft.
func (v *Voter) start() error {
	err := v.disk.shield(func() (err error) {
		v.raft, err = raft.NewRaft(v.cfg.raft(v.id), v.replica, v.disk, v.disk, &snapshots{v.disk}, v.trans)
		return err
	})
	if err != nil && v.raft != nil {
		_ = v.raft.Shutdown().Error()
	}
	if err == nil {
		v.disk.raft.Store(v.raft)
	}
	return err
}

// mayBegin judges the list of a voter without a log, as far as it can be judged alone.
func (v *Voter) mayBegin() error {
	list := v.cfg.Voters
	if list == nil {
		return nil
	}
	text := formatVoters(list)
	i := slices.IndexFunc(list, func(m core.Member) bool { return m.ID == v.cfg.Self })
	switch {
	case i < 0:
		return refuse(ErrRefused, "node %s is to be a voter, and the list of voters %s does not name it: name it on all voters; "+
			"or, if the log exists, start it without --voters and run `wasilo voters add %s`", v.cfg.Self, text, v.cfg.Self)
	case len(list)%2 == 0 && !v.cfg.AllowEven:
		return refuse(ErrEvenVoters, "the list of voters %s has %d: an even number bears no more losses than one less. "+
			"Name three or five, or allow it with --voters-even", text, len(list))
	case list[i].Authority != v.cfg.Authority:
		v.log.Warn("the list of voters has another address for this node than its link", "list", list[i].Authority, "link", v.cfg.Authority)
	}
	return nil
}

// compare warns of a list that is not that of the log.
func (v *Voter) compare() {
	if v.cfg.Voters == nil {
		return
	}
	_, members := v.members()
	var listed, voting []string
	for _, m := range v.cfg.Voters {
		listed = append(listed, string(m.ID))
	}
	for _, s := range members {
		if id, err := ParseRaftID(string(s.ID)); err == nil {
			voting = append(voting, string(id.Node))
		}
	}
	slices.Sort(voting)
	if !slices.Equal(listed, voting) {
		v.log.Warn("--voters is not what the log says, and the log counts: voters are changed by `wasilo voters add` and `rm`",
			"list", listed, "log", voting)
	}
}

// members returns the servers of the last configuration, committed or not, and the index of the last that is committed.
func (v *Voter) members() (index uint64, servers []raft.Server) {
	index = max(v.replica.configured.Load(), v.disk.configured.Load())
	return index, v.raft.GetConfiguration().Configuration().Servers
}

func (v *Voter) configured() bool {
	_, servers := v.members()
	return len(servers) > 0
}

// recorded returns the authority that the configuration has for a voter. Raft's goroutines ask for it before [Voter.start] has returned.
func (v *Voter) recorded(id RaftID) (string, bool) {
	r := v.disk.raft.Load()
	if r == nil {
		return "", false
	}
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.ID == id.server() {
			_, authority, err := parseAddress(s.Address)
			return authority, err == nil
		}
	}
	return "", false
}

func (v *Voter) hello() hello {
	h := hello{id: v.id, list: formatVoters(v.cfg.Voters), failed: v.State() == Failed}
	index, servers := v.members()
	h.index, h.last, h.begun = index, v.raft.LastIndex(), len(servers) > 0
	for _, s := range servers {
		h.members = append(h.members, string(s.ID))
	}
	return h
}

// ID returns the voter's raft id.
func (v *Voter) ID() RaftID { return v.id }

// Failed delivers, once, why the voter has stopped, if it stops by itself: a disk that fails, or a list of voters that contradicts
// another's. It stays to be closed.
func (v *Voter) Failed() <-chan error { return v.failed }

// State returns what the voter is to the log.
func (v *Voter) State() State {
	v.mu.Lock()
	state, fault, closed := v.state, v.fault, v.closed
	v.mu.Unlock()
	switch {
	case closed:
		return Closed
	case fault != nil:
		return Failed
	case state != "":
		if state == Waiting && v.votes() {
			return Voting
		}
		return state
	case v.votes():
		return Voting
	}
	return NotVoter
}

func (v *Voter) votes() bool {
	_, servers := v.members()
	return slices.ContainsFunc(servers, func(s raft.Server) bool { return s.ID == v.id.server() && s.Suffrage == raft.Voter })
}

func (v *Voter) setState(s State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = s
}

// lookOut says when this voter has lost its vote, and finds out, while no leader is known, whether that happened when it did not look:
// nobody sends it the log then.
func (v *Voter) lookOut(ctx context.Context) {
	t := time.NewTicker(calmGap)
	defer t.Stop()
	blind, had := 0, v.configured() // with a configuration, a vote is expected
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		var members []string
		if _, _, known := v.Leader(); known {
			if blind >= 2 {
				v.log.Info("the voters have a leader again")
			}
			blind = 0
			v.setState("")
		} else if blind++; blind >= 2 && v.votes() {
			if blind == 2 {
				v.log.Warn("this voter knows of no leader: a majority of the voters has to be up and in reach of each other; " +
					"`wasilo voters list` shows who answers")
			}
			members = v.removedSince(ctx)
		}
		has := v.votes() && members == nil
		if had && !has {
			v.log.Warn("this node is not a voter any more: it was removed", "voters", members, "do", howToJoin(v.id, nil))
		}
		had = has
	}
}

// removedSince asks the others for a later configuration, and returns its voters if this one is not among them.
func (v *Voter) removedSince(ctx context.Context) []string {
	index, servers := v.members()
	var others []core.Member
	for _, s := range servers {
		if id, authority, err := parseAddress(s.Address); err == nil {
			others = append(others, core.Member{ID: id.Node, Authority: authority})
		}
	}
	answers, _ := v.ask(ctx, others)
	for _, h := range answers {
		if h.begun && h.index > index && !slices.Contains(h.members, v.id.String()) {
			v.setState(NotVoter)
			return h.members
		}
	}
	return nil
}

// guard ends raft when the voter has failed.
func (v *Voter) guard() {
	select {
	case <-v.ctx.Done():
		return
	case <-v.disk.down:
		v.fail(v.disk.failure())
	case <-v.broken:
	}
	ctx, cancel := context.WithTimeout(context.Background(), failureTime)
	defer cancel()
	v.stop(ctx)
}

// failureTime bounds the wait for the answers of what was under way when a voter failed.
const failureTime = 2 * time.Second

// fail ends the voter. The first reason counts.
func (v *Voter) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fault != nil || v.closing {
		return
	}
	v.fault, v.closing = err, true
	v.log.Error("the voter has failed", "err", err)
	v.failed <- err
	close(v.broken)
}

// stop ends raft, after the answers to what is under way, or at once when ctx ends.
func (v *Voter) stop(ctx context.Context) {
	v.halt.Do(func() {
		v.mu.Lock()
		v.closing = true
		idle := make(chan struct{})
		if v.pending == 0 {
			close(idle)
		} else {
			v.idle = idle
		}
		v.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
		ended := v.raft.Shutdown()
		_ = v.trans.Close() // what waits for the network waits no more
		v.trans.CloseStreams()
		_ = ended.Error()
	})
}

// Close ends the voter and waits until nothing of it runs: proposals under way are answered first, unless ctx ends before. Whoever leads
// should [Voter.Transfer] before, or the others take an election timeout to notice. The error is that of the disk.
func (v *Voter) Close(ctx context.Context) error {
	v.mu.Lock()
	again := v.closed
	v.closed, v.closing = true, true
	v.mu.Unlock()
	if again {
		<-v.over
		return v.err
	}
	v.cfg.Port.detach(v) // not before: what a voter that failed has to say, its list above all, is how others find out
	v.stop(ctx)
	v.cancel()
	v.work.Wait()
	if err := v.disk.close(true); err != nil {
		v.err = fmt.Errorf("the voter's log was not closed in good order: %w", err)
	}
	close(v.over)
	return v.err
}

// usable says why nothing can be asked of the voter any more.
func (v *Voter) usable() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.usableLocked()
}

func (v *Voter) usableLocked() error {
	switch {
	case v.fault != nil:
		return fmt.Errorf("%w: %w", ErrClosed, v.fault)
	case v.closing:
		return ErrClosed
	}
	return nil
}

// wait calls raft and waits for what comes of it. The goroutine that waits ends with raft's answer, and [Voter.stop] waits for it:
// raft forgets those that are under way when it ends. finally is called in any case, once: when raft has answered, or will not be asked.
func (v *Voter) wait(ctx context.Context, call func() raft.Future, finally func()) error {
	v.mu.Lock()
	if err := v.usableLocked(); err != nil {
		v.mu.Unlock()
		finally()
		return err
	}
	v.pending++
	v.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		err := call().Error()
		finally()
		done <- err
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.pending--; v.pending == 0 && v.idle != nil {
			close(v.idle)
			v.idle = nil
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enqueue bounds the time until raft takes a proposal. Afterwards there is no bound but its fate.
func (v *Voter) enqueue(ctx context.Context) time.Duration {
	most := 10 * time.Second
	if d, ok := ctx.Deadline(); ok {
		most = min(most, max(time.Until(d), time.Millisecond))
	}
	return most
}

// Propose puts an entry into the log and returns the machine's answer and the entry's index. Proposals that wait at the same time are
// written together. The entry must not be changed afterwards.
//
// Errors: [ErrNotLeader] and [ErrClosed] when it is not in the log and will not be, [ErrOutcomeUnknown] when it may be, also when ctx
// ends first; [ErrRefused] for one that is too large. A context's error without [ErrOutcomeUnknown] says that raft did not take it.
func (v *Voter) Propose(ctx context.Context, entry []byte) (result []byte, index uint64, err error) {
	if len(entry) > v.cfg.MaxEntry {
		return nil, 0, refuse(ErrRefused, "an entry of %d bytes; the limit is %d", len(entry), v.cfg.MaxEntry)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	v.proposed.Add(1)
	var f raft.ApplyFuture
	err = v.wait(ctx, func() raft.Future {
		f = v.raft.Apply(entry, v.enqueue(ctx))
		return f
	}, func() {})
	if err = v.outcome(err); err != nil {
		return nil, 0, err
	}
	result, _ = f.Response().([]byte)
	return result, f.Index(), nil
}

// Barrier returns nil when this voter leads and has applied everything that was in the log when it was called. Errors are those of
// [Voter.Propose].
func (v *Voter) Barrier(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.outcome(v.wait(ctx, func() raft.Future { return v.raft.Barrier(v.enqueue(ctx)) }, func() {}))
}

// outcome sorts raft's errors into what is known of the entry.
func (v *Voter) outcome(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrNotVoter):
		v.refused.Add(1)
		node, authority, _ := v.Leader()
		if node == v.id.Node { // it is about to change
			node, authority = "", ""
		}
		return &NotLeaderError{Leader: node, Authority: authority}
	case errors.Is(err, raft.ErrEnqueueTimeout):
		v.refused.Add(1)
		return fmt.Errorf("the voter has too much to do, and has not taken the entry: %w", context.DeadlineExceeded)
	}
	v.unknown.Add(1)
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// Stats are a voter's figures. Those that count grow for as long as it is open.
type Stats struct {
	State         State
	Leading       bool
	Term          uint64
	LastIndex     uint64 // of the log
	CommitIndex   uint64 // what a majority has, as far as this voter knows
	AppliedIndex  uint64 // what was handed to the machine
	SnapshotIndex uint64
	Voters        int
	LastContact   time.Duration // since a leader was heard of; 0 on the leader, -1 if never

	Proposed uint64 // entries
	Refused  uint64 // of these, not taken: another voter leads, or none
	Unknown  uint64 // of these, with an unknown outcome
}

// Stats returns the figures.
func (v *Voter) Stats() Stats {
	_, servers := v.members()
	s := Stats{State: v.State(), Leading: v.raft.State() == raft.Leader, Term: v.raft.CurrentTerm(), LastIndex: v.raft.LastIndex(),
		CommitIndex: v.raft.CommitIndex(), AppliedIndex: v.raft.AppliedIndex(), Voters: len(servers),
		Proposed: v.proposed.Load(), Refused: v.refused.Load(), Unknown: v.unknown.Load()}
	if metas, err := v.disk.snaps.List(); err == nil && len(metas) > 0 {
		s.SnapshotIndex = metas[0].Index
	}
	if at := v.raft.LastContact(); s.Leading {
		s.LastContact = 0
	} else if s.LastContact = -1; !at.IsZero() {
		s.LastContact = time.Since(at)
	}
	return s
}
