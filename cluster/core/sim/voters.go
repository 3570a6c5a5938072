package sim

import (
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// voters is the log that stands in for raft: what raft promises and no more. What is committed stays, in one order, unless the majority is
// lost and recovered. Whether a proposal will be committed, and when its proposer hears of it, is anybody's guess.
type voters struct {
	w       *world
	members []*node
	log     []entry // log[i] has index i+1
	term    uint64
	leader  *leadership // of the newest term; nil: none
	ill     time.Duration
	truth   *core.Table // after all that is committed
	raised  uint64      // index at which this life of the log began
	down    bool        // the majority is lost
}

// entry is a committed entry. Without data it is a barrier.
type entry struct {
	data []byte
	prop *proposal // nil: of an earlier life
}

// proposal is what a leader has put into its own log.
type proposal struct {
	data    []byte
	by      *leadership
	ready   time.Duration // when the majority has it, if all goes well
	items   []item        // whom to answer
	chair   bool
	barrier bool
	change  *change // of who votes; such an entry has no data
}

// item is one command of a proposal that came from a node.
type item struct {
	command core.Command
	from    *proc
	ask     uint64        // 0: no answer is wanted
	sent    time.Duration // by the sender's clock
	sentUp  time.Duration // by that which goes on
	hops    int
}

// leadership is one term of a leader.
type leadership struct {
	p       *proc
	term    uint64
	pending []*proposal
	ticking bool
	over    bool // the leader knows that it is none
}

// voting is what a process has as a voter.
type voting struct {
	chair    *core.Chair
	applied  uint64
	lead     *leadership // that it believes in
	waiting  []item      // for the next entry
	flushing bool
	busy     *proposal // of the chair
	hint     *node     // the leader, as far as known
	feed     []fed     // what followers may still ask for
	fedFrom  uint64    // the feed holds all after this index
}

// fed is an entry as followers get it.
type fed struct {
	index uint64
	data  []byte
}

// Sizes of what voters keep, small so that snapshots matter.
const (
	snapshotEvery = 40
	feedKept      = 60
)

func (v *voters) init(w *world) {
	v.w, v.truth = w, core.NewTable()
}

func (v *voters) last() uint64 { return uint64(len(v.log)) }

// majority reports whether a voter reaches, and is reached by, more than half of them.
func (v *voters) majority(n *node) bool {
	if !n.up() {
		return false
	}
	count := 0
	for _, o := range v.members {
		if o == n || o.up() && v.w.net.both(n.i, o.i) {
			count++
		}
	}
	return count > len(v.members)/2
}

// up reports whether a voter can vote.
func (n *node) up() bool { return n.p != nil && !n.p.paused && n.p.votes && !n.lost }

// watch elects a leader where one is missing. It is called every 50 ms.
func (v *voters) watch() {
	w := v.w
	if l := v.leader; l != nil && !l.p.dead && !l.over && v.majority(l.p.n) {
		v.ill = 0
		v.beat()
		return
	}
	if v.ill == 0 {
		v.ill = w.now
	}
	if l := v.leader; l != nil && !l.p.dead && !l.p.paused && l.p.lead == l && w.now-v.ill > 400*time.Millisecond && w.chance(0.3) {
		w.at(w.now, l.p, func() { l.p.deposed(l) }) // its lease has run out
	}
	if w.now-v.ill > w.between(500*time.Millisecond, 3*time.Second) {
		v.elect()
	}
}

// beat tells everybody who leads and what is committed.
func (v *voters) beat() {
	l := v.leader
	commit := v.last()
	for _, n := range v.members {
		if n == l.p.n {
			w := v.w
			w.at(w.now, l.p, func() { l.p.advance(commit) })
			continue
		}
		v.w.toNode(l.p.n, n, func(q *proc) {
			if q.votes {
				q.hear(l, commit)
			}
		})
	}
}

// hear is what a follower learns of a leader.
func (p *proc) hear(l *leadership, commit uint64) {
	v := &p.w.voters
	if p.lead != nil && p.lead != l {
		if p.lead.term > l.term {
			return
		}
		p.deposed(p.lead)
	}
	if v.leader == l {
		p.hint = l.p.n
		p.install(l)
	}
	p.advance(min(commit, v.last()))
}

// elect makes some voter the leader that can be one. What the one before had begun is partly in its log, and committed by it.
func (v *voters) elect() {
	w := v.w
	if v.down {
		return
	}
	var able []*node
	for _, n := range v.members {
		if v.majority(n) {
			able = append(able, n)
		}
	}
	if len(able) == 0 {
		return
	}
	n := pick(w, able)
	old := v.leader
	v.term++
	w.stats.Elections++
	l := &leadership{p: n.p, term: v.term}
	if old != nil && len(old.pending) > 0 {
		kept := w.rng.IntN(len(old.pending) + 1)
		for _, p := range old.pending[:kept] {
			p.ready = w.now
			l.pending = append(l.pending, p)
			w.stats.Inherited++
		}
		w.stats.LostProposals += len(old.pending) - kept
		old.pending = nil
	}
	v.leader, v.ill = l, 0
	w.note(n.p, "leads term %d", l.term)
	w.at(w.now, n.p, func() {
		if v.leader != l {
			return
		}
		if n.p.lead != nil {
			n.p.deposed(n.p.lead)
		}
		n.p.lead, n.p.hint = l, n
		n.p.chair.Led(n.p.local())
		n.p.append(&proposal{barrier: true})
	})
	v.tick(l)
	if old != nil && !old.p.dead && old.p != n.p { // it hears of it, sooner or later
		w.at(w.now+w.between(0, 700*time.Millisecond), old.p, func() { old.p.deposed(old) })
	}
}

// deposed is when a leader learns that it is none. What it has proposed may yet be committed or not.
func (p *proc) deposed(l *leadership) {
	if p.lead != l {
		return
	}
	p.w.note(p, "leads no more")
	l.over = true
	p.lead, p.busy, p.waiting = nil, nil, nil
	p.chair.Deposed()
}

// append puts a proposal into the leader's own log.
func (p *proc) append(prop *proposal) {
	w, l := p.w, p.lead
	if l == nil {
		return
	}
	d := w.between(time.Millisecond, 8*time.Millisecond)
	if w.chance(w.faults.slowLog) {
		d = w.between(0, 800*time.Millisecond)
	}
	prop.by, prop.ready = l, w.now+d
	if n := len(l.pending); n > 0 {
		prop.ready = max(prop.ready, l.pending[n-1].ready)
	}
	l.pending = append(l.pending, prop)
	w.voters.tick(l)
}

// tick commits what is ready.
func (v *voters) tick(l *leadership) {
	if l.ticking || len(l.pending) == 0 {
		return
	}
	l.ticking = true
	v.w.at(max(l.pending[0].ready, v.w.now), nil, func() {
		l.ticking = false
		if v.leader != l || l.p.dead {
			return
		}
		if !v.majority(l.p.n) {
			l.pending[0].ready = v.w.now + 20*time.Millisecond
			v.tick(l)
			return
		}
		any := false
		for len(l.pending) > 0 && l.pending[0].ready <= v.w.now && v.w.broken == nil {
			prop := l.pending[0]
			l.pending = l.pending[1:]
			v.commit(prop)
			any = true
		}
		if any {
			v.beat()
		}
		v.tick(l)
	})
}

// commit makes a proposal a fact.
func (v *voters) commit(prop *proposal) {
	w := v.w
	v.log = append(v.log, entry{prop.data, prop})
	w.stats.Entries++
	if prop.data != nil {
		w.mon.commit(v.last(), prop)
	}
	if prop.change != nil {
		v.changed(prop.change)
	}
}

// replay sets a voter up from its disk.
func (p *proc) replay() {
	n := p.n
	if n.snapshot != nil {
		t, err := core.ReadSnapshot(n.snapshot)
		if err != nil {
			p.w.fail("log", "a voter's own snapshot: %v", err)
			return
		}
		p.table, p.applied = t, n.snapAt
		p.w.stats.Replays++
	}
	p.fedFrom = p.applied
	p.chair = core.NewChair(p.table, nil, p.local())
}

// advance applies what is committed.
func (p *proc) advance(commit uint64) {
	w := p.w
	if commit <= p.applied {
		return
	}
	var mine []entry
	var all [][]core.Result
	for p.applied < commit {
		e := w.voters.log[p.applied]
		p.applied++
		p.n.stored = max(p.n.stored, p.applied)
		var results []core.Result
		if e.data != nil {
			var err error
			if results, err = p.table.Apply(p.applied, e.data); err != nil {
				w.fail("log", "entry %d: %v", p.applied, err)
				return
			}
			p.chair.Applied(p.local())
			data, err := core.Followed(e.data, results)
			if err != nil {
				w.fail("log", "entry %d: %v", p.applied, err)
				return
			}
			if data != nil {
				p.feed = append(p.feed, fed{p.applied, data})
				if len(p.feed) > 2*feedKept {
					p.fedFrom = p.feed[feedKept-1].index
					p.feed = append([]fed(nil), p.feed[feedKept:]...)
				}
			}
		}
		if e.prop != nil && e.prop.by == p.lead && p.lead != nil {
			mine, all = append(mine, e), append(all, results)
		}
		if p.applied%snapshotEvery == 0 {
			p.n.snapshot, p.n.snapAt = p.table.AppendSnapshot(nil), p.applied
		}
	}
	for i, e := range mine {
		if e.prop.barrier {
			p.chair.Barrier(p.local())
		}
		if e.prop == p.busy {
			p.busy = nil
		}
		p.answer(e.prop, all[i])
	}
	if p.tenant != nil {
		p.tell(&core.TenantInput{Type: core.TenantAdvanced})
		p.chairTick()
	}
}

// answer tells those who asked what became of it.
func (p *proc) answer(prop *proposal, results []core.Result) {
	for i, it := range prop.items {
		if it.ask == 0 {
			continue
		}
		in := core.TenantInput{Type: core.TenantAnswered, Ask: it.ask, Void: results[i].Void != "", Session: it.command.Session}
		if it.command.Type == core.OpenSession {
			in.Session = core.SessionID(results[i].ID)
		}
		p.w.toProc(p.n, it.from, func() {
			it.from.asked = p.n
			it.from.tell(&in)
		})
	}
}

// chairTick lets the leader's chair act.
func (p *proc) chairTick() {
	commands := p.chair.Tick(p.local(), p.busy != nil)
	if len(commands) == 0 || p.lead == nil {
		return
	}
	w := p.w
	w.note(p, "chair proposes %s", describe(commands))
	data := core.AppendEntry(nil, commands...)
	p.busy = &proposal{data: data, chair: true}
	p.append(p.busy)
	if w.chance(w.faults.again) { // its outcome was unknown
		w.stats.Repeated++
		p.append(&proposal{data: data})
	}
}

// receive takes a command of a node, if this voter leads, or passes it on.
func (p *proc) receive(it item) {
	w := p.w
	if p.lead == nil {
		if to := p.hint; to != nil && to != p.n && it.hops < 2 {
			it.hops++
			w.toNode(p.n, to, func(q *proc) { q.receive(it) })
		}
		return
	}
	p.waiting = append(p.waiting, it)
	if p.flushing {
		return
	}
	p.flushing = true
	p.after(w.between(2*time.Millisecond, 20*time.Millisecond), func() {
		p.flushing = false
		items := p.waiting
		p.waiting = nil
		if p.lead == nil || len(items) == 0 {
			return
		}
		commands := make([]core.Command, len(items))
		for i := range items {
			commands[i] = items[i].command
		}
		p.append(&proposal{data: core.AppendEntry(nil, commands...), items: items})
	})
}

// following is what a process has as a client of the voters.
type following struct {
	asked   *node // the voter that answered last
	follows *node
	at      uint64 // index up to which it has the feed
	polling bool
	polled  int
}

// ask sends what the tenant asks for.
func (p *proc) ask(n uint64, c core.Command) {
	p.send(item{command: c, from: p, ask: n, sent: p.local(), sentUp: p.uptime()})
}

func (p *proc) propose(commands []core.Command) {
	for _, c := range commands {
		p.send(item{command: c, from: p, sent: p.local(), sentUp: p.uptime()})
	}
}

func (p *proc) send(it item) {
	w := p.w
	h := p.moves[it.command.Move]
	stuck := it.command.Type == core.Release && h != nil && h.stuck && !w.faults.over
	if p.lead != nil && !stuck {
		p.receive(it)
		return
	}
	to := p.asked
	if p.votes && p.hint != nil {
		to = p.hint
	}
	if to == nil || w.chance(0.2) {
		to = pick(w, w.voters.members)
	}
	p.asked = nil
	send := func() { w.toNode(p.n, to, func(q *proc) { q.receive(it) }) }
	if stuck || w.chance(w.faults.stale) { // stuck in some buffer for long
		w.stats.Late++
		d := w.between(0, 12*time.Second)
		if stuck {
			d = w.between(3*time.Second, 5*time.Second)
		}
		w.after(min(d, max(0, w.shape.length-w.now)), send) // what is still on its way when all is healed is a fault that is not
		return
	}
	send()
}

// poll asks a voter for what is new.
func (p *proc) poll() {
	w := p.w
	if p.polling && p.polled < 8 {
		p.polled++
		return
	}
	if p.follows == nil || p.polling || w.chance(0.01) {
		p.follows = pick(w, w.voters.members)
	}
	p.polling, p.polled = true, 0
	generation, index := p.table.Generation(), p.at
	w.toNode(p.n, p.follows, func(q *proc) {
		switch {
		case !q.votes: // it says so
			w.toProc(q.n, p, func() {
				if p.follows == q.n {
					p.polling, p.follows = false, nil
				}
			})
			return
		case q.table.Generation() == generation && q.applied < index:
			return
		case q.table.Generation() == generation && q.fedFrom <= index:
			var entries []fed
			for _, f := range q.feed {
				if f.index > index {
					entries = append(entries, f)
				}
			}
			upTo := q.applied
			w.toProc(q.n, p, func() { p.fed(generation, index, upTo, entries) })
		case q.table.Generation() >= generation:
			w.stats.Snapshots++
			snapshot, upTo := q.table.AppendSnapshot(nil), q.applied
			w.toProc(q.n, p, func() { p.replaced(snapshot, upTo) })
		}
	})
}

func (p *proc) fed(generation uint32, from, upTo uint64, entries []fed) {
	p.polling = false
	if p.table.Generation() != generation || p.at < from || upTo <= p.at {
		return
	}
	news := false
	for _, f := range entries {
		if f.index <= p.at {
			continue
		}
		if _, err := p.table.Apply(f.index, f.data); err != nil {
			p.w.fail("log", "entry %d in the feed: %v", f.index, err)
			return
		}
		news = true
	}
	p.at = upTo
	if news {
		p.tell(&core.TenantInput{Type: core.TenantAdvanced})
	}
	p.settle(abi.Epoch{Generation: p.table.Generation(), Index: upTo})
}

func (p *proc) replaced(snapshot []byte, upTo uint64) {
	p.polling = false
	t, err := core.ReadSnapshot(snapshot)
	if err != nil {
		p.w.fail("log", "a snapshot in the feed: %v", err)
		return
	}
	if t.Generation() < p.table.Generation() || t.Generation() == p.table.Generation() && upTo <= p.at {
		return
	}
	p.table, p.at = t, upTo
	p.tell(&core.TenantInput{Type: core.TenantAdvanced, Table: t})
	p.settle(abi.Epoch{Generation: t.Generation(), Index: upTo})
}

// recover gives the voters a new life after their majority was lost: what one of them has is what there is. What it had not heard of is
// gone, though it was committed.
func (v *voters) recover(survivor *node, stopAll bool) {
	w := v.w
	w.stats.Recoveries++
	for _, n := range w.nodes {
		if n.voter || stopAll {
			n.crash("the voters are recovered")
		}
	}
	keep := max(survivor.stored, v.raised) // the recovery before is on every disk
	w.stats.LostEntries += int(v.last() - keep)
	w.note(nil, "the voters are recovered from %s, at %d of %d", survivor.id, keep, v.last())
	v.log = v.log[:keep:keep]
	for i := range v.log {
		v.log[i].prop = nil
	}
	v.leader, v.down = nil, false
	// The others get what the survivor has.
	for _, n := range v.members {
		n.snapshot, n.snapAt, n.stored, n.lost = survivor.snapshot, survivor.snapAt, keep, false
	}
	v.truth = core.NewTable()
	for i, e := range v.log {
		if e.data != nil {
			if _, err := v.truth.Apply(uint64(i+1), e.data); err != nil {
				w.fail("log", "entry %d again: %v", i+1, err)
			}
		}
	}
	w.mon.resync()
	v.commit(&proposal{data: core.AppendEntry(nil, core.Command{Type: core.RaiseGeneration, Generation: v.truth.Generation() + 1})})
	v.raised = v.last()
}
