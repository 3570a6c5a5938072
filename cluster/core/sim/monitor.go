package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// monitor looks on in true time and order, and knows what no node knows. It takes nothing from the nodes but what they do.
type monitor struct {
	w       *world
	places  []place                    // by actor: several of one partition and kind have one each
	live    map[liveKey]*activation    // that may run
	session map[core.SessionID]*tenure // by what the log says
	hib     []hibernating              // by actor
	took    map[core.MoveID]bool       // moves that were taken in
	release map[core.MoveID]abi.Epoch  // epochs that releases assigned
	acked   []ackedTurn                // of durable actors
}

// place is the history of one actor's partition.
type place struct {
	spans    []span
	highest  abi.Epoch      // ever assigned
	released abi.Epoch      // newest epoch that was released
	owner    core.SessionID // by the log
	log      []happened
}

// span is how long a node could run under one epoch: from when it was enabled to the last check that passed.
type span struct {
	epoch         abi.Epoch
	proc          *proc
	enabled, last uint64 // numbers of events; last 0: no check passed
}

// happened is a line for the report of a violation.
type happened struct {
	at    time.Duration
	p     *proc
	clock time.Duration // its own
	until time.Duration // its deadline by then
	times int           // how often, one after another
	what  string
	epoch abi.Epoch
	owner core.SessionID
}

type liveKey struct {
	actor int
	epoch abi.Epoch
	p     int // in available mode epochs are each node's own
}

// tenure is a session as the log has it.
type tenure struct {
	p        *proc
	deadline time.Duration // of p's clock: the latest renewal that was committed, as of its sending
	lasts    time.Duration // the same by the clock that goes on while a machine is suspended
	ended    bool
}

// hibernating is what the state of a hibernating actor must be.
type hibernating struct {
	value  int
	holder core.SessionID
}

type ackedTurn struct {
	actor *actor
	id    uint64
	value int
}

func (m *monitor) init(w *world) {
	m.w = w
	m.places = make([]place, len(w.actors))
	m.hib = make([]hibernating, len(w.actors))
	m.live = make(map[liveKey]*activation)
	m.session = make(map[core.SessionID]*tenure)
	m.took = make(map[core.MoveID]bool)
	m.release = make(map[core.MoveID]abi.Epoch)
}

func (m *monitor) add(a int, h happened) {
	l := &m.places[a]
	h.at, h.times = m.w.now, 1
	if h.p != nil {
		h.clock, h.until = h.p.local(), h.p.until
	}
	if n := len(l.log); n > 0 && l.log[n-1].p == h.p && l.log[n-1].what == h.what && l.log[n-1].epoch == h.epoch && h.p != nil {
		h.times += l.log[n-1].times
		l.log[n-1] = h
		return
	}
	if len(l.log) >= 60 {
		l.log = append(l.log[:0], l.log[30:]...)
	}
	l.log = append(l.log, h)
}

// history is what the monitor knows of a partition, for a message.
func (m *monitor) history(a int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  %s, partition %d:", m.w.actors[a].id, m.w.actors[a].part)
	for _, h := range m.places[a].log {
		fmt.Fprintf(&b, "\n  %9.4f ", h.at.Seconds())
		if h.p != nil {
			fmt.Fprintf(&b, "%s#%d (clock %.4f, deadline %.4f) ", h.p.n.id, h.p.boot, h.clock.Seconds(), h.until.Seconds())
		}
		fmt.Fprintf(&b, "%s, epoch %d.%d", h.what, h.epoch.Generation, h.epoch.Index)
		if h.times > 1 {
			fmt.Fprintf(&b, ", %d times until then", h.times)
		}
		if h.owner != 0 {
			fmt.Fprintf(&b, ", session %d", h.owner)
		}
	}
	return b.String()
}

// commit applies an entry to the truth, and checks what the log may do: I2, I3 and I4.
func (m *monitor) commit(index uint64, prop *proposal) {
	w := m.w
	commands, err := core.ReadEntry(prop.data)
	if err != nil {
		w.fail("log", "entry %d: %v", index, err)
		return
	}
	t := w.voters.truth
	results, err := t.Apply(index, prop.data)
	if err != nil {
		w.fail("log", "entry %d: %v", index, err)
		return
	}
	may := map[core.SessionID]bool{} // whose partitions this entry may take
	raised, owners := false, false
	for i := range commands {
		c := &commands[i]
		if results[i].Void != "" {
			w.stats.Void++
			continue
		}
		owners = owners || c.Type != core.RenewSession
		switch c.Type {
		case core.OpenSession, core.RenewSession:
			m.renewed(prop, i, results[i])
		case core.ExpireSession:
			w.stats.Expiries++
			may[c.Session] = true
			m.expired(c.Session)
		case core.CloseSession:
			may[c.Session] = true
			m.tenure(c.Session).ended = true
		case core.Release:
			w.stats.Moves++
			may[c.Session] = true
			m.released(c, t)
		case core.BeginMove:
			w.stats.MovesBegun++
		case core.AbortMove:
			w.stats.Aborts++
		case core.Regroup:
			w.stats.Regroups++
		case core.RaiseGeneration:
			raised = true
			for _, s := range m.session {
				s.ended = true
			}
		}
	}
	if owners {
		m.compare(may, raised, commands)
	}
	if w.trace != nil {
		w.note(nil, "entry %d: %s", index, describe(commands))
		for _, r := range results {
			if r.Void != "" {
				w.note(nil, "  void: %s", r.Void)
			}
		}
	}
}

func (m *monitor) tenure(s core.SessionID) *tenure {
	t := m.session[s]
	if t == nil {
		t = &tenure{}
		m.session[s] = t
	}
	return t
}

// renewed notes until when a session may run by rule 1.
func (m *monitor) renewed(prop *proposal, i int, r core.Result) {
	if i >= len(prop.items) {
		return
	}
	it := &prop.items[i]
	id := it.command.Session
	if it.command.Type == core.OpenSession {
		id = core.SessionID(r.ID)
	}
	t := m.tenure(id)
	t.p = it.from
	t.deadline = max(t.deadline, it.sent+core.SessionTime)
	t.lasts = max(t.lasts, it.sentUp+core.SessionTime)
	m.w.stats.Renewals++
}

// expired checks I4.
func (m *monitor) expired(s core.SessionID) {
	w := m.w
	t := m.tenure(s)
	t.ended = true
	if w.shape.calm {
		w.fail("I10", "without faults session %d expired", s)
	}
	p := t.p
	if p == nil || p.dead || p.tenant.Session() != s {
		return
	}
	// A machine that is suspended does not know how late it is.
	unaware := p.n.asleep || p.blind
	if p.uptime() < t.lasts || p.local() < p.until && !unaware {
		w.fail("I4", "session %d of %s#%d expires at %v of its clock (%v with suspensions); its deadline there is %v, and by the renewals that were committed %v (%v)",
			s, p.n.id, p.boot, p.local(), p.uptime(), p.until, t.deadline, t.lasts)
	}
}

// believes checks rule 1 from the node's side: it believes in its session for no longer than the renewals that were committed last, by the clock that
// goes on, once it has seen that its machine was suspended.
func (m *monitor) believes(p *proc) {
	s := p.tenant.Session()
	if s == 0 || p.blind || p.n.asleep {
		return
	}
	if t := m.tenure(s); p.until > t.lasts-p.n.lag {
		m.w.fail("I4", "%s#%d believes in session %d until %v of its clock; by the renewals that were committed it lasts until %v", p.n.id, p.boot, s, p.until,
			t.lasts-p.n.lag)
	}
}

// released notes what a release says.
func (m *monitor) released(c *core.Command, t *core.Table) {
	to := core.SessionID(0)
	if mv, ok := t.Move(c.Move); ok && mv.Released == t.Index() {
		m.release[c.Move] = abi.Epoch{Generation: t.Generation(), Index: t.Index()}
		to = mv.To
	}
	g, ok := t.Group(c.Group)
	if !ok {
		return
	}
	for i, a := range m.w.actors {
		if !c.Partitions.Has(a.part) {
			continue
		}
		if in, ok := t.GroupOf(a.kind); !ok || in.ID != g.ID {
			continue
		}
		l := &m.places[i]
		if l.owner == c.Session && g.Slots[a.part].Owner != c.Session {
			l.released = l.highest
			if a.kind == kindHib && m.hib[i].holder == c.Session {
				m.hib[i].holder = to // 0: whoever took over was gone by the end of the same entry, and the state with it
			}
		}
	}
}

// compare looks at what an entry has changed.
func (m *monitor) compare(may map[core.SessionID]bool, raised bool, commands []core.Command) {
	w := m.w
	what := ""
	for i, a := range w.actors {
		l := &m.places[i]
		slot := m.slot(a)
		if slot.Owner == l.owner && slot.Epoch == l.highest {
			continue
		}
		if what == "" {
			what = "by the log " + describe(commands)
		}
		m.add(i, happened{what: what, epoch: slot.Epoch, owner: slot.Owner})
		if l.owner != 0 && slot.Owner != l.owner && !may[l.owner] && !raised {
			w.fail("I3", "the owner changes from session %d to %d by neither release nor expiry%s", l.owner, slot.Owner, m.history(i))
		}
		if slot.Owner != 0 && !(l.highest.Less(slot.Epoch)) {
			w.fail("I2", "the epoch does not grow: %v after %v%s", slot.Epoch, l.highest, m.history(i))
		}
		l.owner = slot.Owner
		if l.highest.Less(slot.Epoch) {
			l.highest = slot.Epoch
		}
		w.stats.OwnerChanges++
	}
}

// slot is what the log says of an actor's partition.
func (m *monitor) slot(a *actor) core.Slot {
	if g, ok := m.w.voters.truth.GroupOf(a.kind); ok {
		return g.Slots[a.part]
	}
	return core.Slot{}
}

// resync is when the log has lost its tail: what it says of owners is older than what was.
func (m *monitor) resync() {
	for i, a := range m.w.actors {
		slot := m.slot(a)
		m.places[i].owner = slot.Owner
		m.add(i, happened{what: "the log lost its tail", epoch: slot.Epoch, owner: slot.Owner})
	}
}

// enabled notes under which epochs a process may run from now on.
func (m *monitor) enabled(p *proc) {
	a := p.table.Assignments()
	for i, id := range m.w.actors {
		slot, _ := a.Slot(id.kind, id.part)
		if slot.Owner == 0 || slot.Owner != p.tenant.Session() {
			continue
		}
		l := &m.places[i]
		known := false
		for j := range l.spans {
			known = known || l.spans[j].proc == p && l.spans[j].epoch == slot.Epoch
		}
		if known {
			continue
		}
		if len(l.spans) > 12 {
			l.spans = append(l.spans[:0], l.spans[4:]...)
		}
		l.spans = append(l.spans, span{epoch: slot.Epoch, proc: p, enabled: m.w.stats.Events})
		m.add(i, happened{p: p, what: "enables", epoch: slot.Epoch, owner: slot.Owner})
	}
}

// passed is a check that passed: I1, I3 and I5.
func (m *monitor) passed(a *activation) {
	w, p, i := m.w, a.p, a.actor.i
	if w.shape.available {
		return
	}
	if m.inGap(a) {
		w.stats.GapPasses++
		return
	}
	l, now := &m.places[i], w.stats.Events
	epoch := a.lease.Epoch
	var mine *span
	for j := range l.spans {
		if s := &l.spans[j]; s.proc == p && s.epoch == epoch {
			mine = s
		}
	}
	m.add(i, happened{p: p, what: "passes a check", epoch: epoch})
	if mine == nil {
		w.fail("I5", "%s#%d passes a check under epoch %v, which was never its own%s", p.n.id, p.boot, epoch, m.history(i))
		return
	}
	mine.last = now
	for j := range l.spans {
		s := &l.spans[j]
		if s == mine || s.last == 0 {
			continue
		}
		if s.epoch == epoch && s.proc != p {
			w.fail("I5", "%s#%d and %s#%d both run under epoch %v%s", p.n.id, p.boot, s.proc.n.id, s.proc.boot, epoch, m.history(i))
		}
		if s.epoch != epoch && s.enabled <= now && mine.enabled <= s.last {
			w.fail("I1", "%s#%d passes a check under epoch %v; under %v %s#%d was enabled and passed a check in that time%s", p.n.id, p.boot, epoch,
				s.epoch, s.proc.n.id, s.proc.boot, m.history(i))
		}
	}
	if !l.released.Less(epoch) {
		w.fail("I3", "%s#%d passes a check under epoch %v, and %v was released%s", p.n.id, p.boot, epoch, l.released, m.history(i))
	}
	if g, ok := p.table.GroupOf(a.actor.kind); ok {
		if e, holds := p.tenant.Holds(g.ID, a.actor.part); !holds || e != epoch {
			w.fail("machine", "%s#%d passes a check under %v, and its tenant holds the partition under %v (%v)%s", p.n.id, p.boot, epoch, e, holds,
				m.history(i))
		}
	}
	t := m.tenure(p.tenant.Session())
	if t.p != p || p.local() >= t.deadline {
		w.fail("I5", "%s#%d passes a check at %v of its clock; by what was committed its session %d lasts until %v%s", p.n.id, p.boot, p.local(),
			p.tenant.Session(), t.deadline, m.history(i))
	}
}

// hit checks an entry of the PID cache that is about to be used: it is what a resolve would answer at this moment, unless that refuses for a
// session that has run out.
func (m *monitor) hit(c *call, e *cached) {
	p := c.p
	r := p.machine.Step(&core.Input{Type: core.Resolve, Identity: c.actor.id, Finishing: c.finishing && !c.here, Chain: c.chain}, p.local())[0]
	switch {
	case r.Type == core.Use && e.to != nil && r.Handle == any(e.to):
	case r.Type == core.Forward && e.to == nil && *r.Member == *e.route.Member:
	case r.Type == core.Refuse && r.Refusal == core.RefusedNoQuorum:
	default:
		where := "node " + string(e.route.Member.ID)
		if e.to != nil {
			where = fmt.Sprintf("its activation under %v/%d (ended %v, revoked %v)", e.route.Epoch, e.route.Serial, e.to.ended, e.to.revoked)
		}
		m.w.fail("cache", "%s#%d has %s cached at %s, and a resolve is answered with effect %d (refusal %d, member %v)%s", p.n.id, p.boot, c.actor.id, where,
			r.Type, r.Refusal, r.Member, m.history(c.actor.i))
	}
}

// sentAtOnce is how often a request may go to other nodes without a back-off: the first time, once more where nobody else was named, and
// along two redirects.
const sentAtOnce = 4

// sent checks that a request does not go round in a ring of nodes which name each other.
func (m *monitor) sent(c *call) {
	if c.sends > sentAtOnce {
		m.w.fail("ring", "request %d to %s has gone from %s to %d nodes without a back-off", c.id, c.actor.id, c.p.n.id, c.sends)
	}
}

// received checks what a process makes of a message of a turn elsewhere: it is refused for good if, and only if, the process knows of a newer epoch of
// the sender, by its own copy of the log or by a message that came before; and for now only if it is behind.
func (m *monitor) received(q *proc, c *call, verdict core.Verdict) {
	key := senderKey{c.caller.kind, c.caller.part}
	seen, highest := q.heard[key], abi.Epoch{}
	if a := q.machine.View().Assigned(); a != nil {
		slot, _ := a.Slot(key.kind, key.part)
		highest = slot.Epoch
	}
	stale := c.epoch.Less(highest)
	if highest.Less(c.epoch) {
		m.w.stats.SendersAhead++
	}
	refused := verdict == core.Replaced
	switch {
	case verdict == core.Invented:
		m.w.fail("sender", "%s#%d takes epoch %v of %s for made up; it knows of %v%s", q.n.id, q.boot, c.epoch, c.caller.id, highest, m.history(c.caller.i))
	case verdict == core.FarAhead:
		m.w.stats.FarAhead++
		if !highest.Less(c.epoch) {
			m.w.fail("sender", "%s#%d waits for epoch %v of %s, and knows of %v%s", q.n.id, q.boot, c.epoch, c.caller.id, highest, m.history(c.caller.i))
		}
		return
	case stale:
		m.w.stats.StaleSenders++
	case c.epoch.Less(seen):
		m.w.stats.StaleByMessage++
		stale, highest = true, seen
	default:
		q.heard[key] = c.epoch
	}
	if stale != refused {
		m.w.fail("sender", "%s#%d gets a message of %s under %v, knows of %v, and refuses it: %v%s", q.n.id, q.boot, c.caller.id, c.epoch, highest, refused,
			m.history(c.caller.i))
	}
}

// inGap reports whether an activation is in the gap that is documented: its machine was suspended, its session has ended, and it has not looked
// since. What it does then counts as never done, and nobody who has heard of its end takes part.
func (m *monitor) inGap(a *activation) bool { return a.p.blind && !a.stillOwned() }

// activated is I5 for activations as such.
func (m *monitor) activated(a *activation) {
	k := m.key(a)
	if o := m.live[k]; o != nil && !o.p.dead {
		m.w.fail("I5", "%s is activated on %s#%d under %v, and lives on %s#%d%s", a.actor.id, a.p.n.id, a.p.boot, a.lease.Epoch, o.p.n.id, o.p.boot,
			m.history(a.actor.i))
	}
	for _, o := range a.p.live {
		if o != a && o.actor == a.actor && !o.ended {
			m.w.fail("machine", "%s is activated twice on %s", a.actor.id, a.p.n.id)
		}
	}
	m.live[k] = a
}

func (m *monitor) key(a *activation) liveKey {
	k := liveKey{actor: a.actor.i, epoch: a.lease.Epoch}
	if m.w.shape.available {
		k.p = a.p.serial
	}
	return k
}

func (m *monitor) ended(a *activation) {
	if k := m.key(a); m.live[k] == a {
		delete(m.live, k)
	}
}

// turn is a turn of a hibernating actor that took its place in the order.
func (m *monitor) turn(a *activation) {
	if a.actor.kind != kindHib || m.w.shape.available || m.inGap(a) {
		return
	}
	h := &m.hib[a.actor.i]
	h.value++
	h.holder = a.p.tenant.Session()
	if a.value != h.value {
		m.w.fail("I9", "%s on %s#%d has the value %d, %d turns after its beginning%s", a.actor.id, a.p.n.id, a.p.boot, a.value, h.value,
			m.history(a.actor.i))
	}
}

// woken is when an activation of a hibernating actor begins, from an image or from nothing.
func (m *monitor) woken(a *activation, img *image) {
	w, h := m.w, &m.hib[a.actor.i]
	if w.shape.available {
		return
	}
	m.add(a.actor.i, happened{p: a.p, what: "wakes", epoch: a.lease.Epoch})
	if img != nil {
		if img.epoch != a.lease.Epoch {
			w.fail("I9", "%s wakes under %v from an image of %v%s", a.actor.id, a.lease.Epoch, img.epoch, m.history(a.actor.i))
		}
		return
	}
	if h.value == 0 {
		return
	}
	if t := m.session[h.holder]; a.stillOwned() && t != nil && !t.ended && t.p != nil && !t.p.dead {
		w.fail("I9", "%s begins anew on %s#%d under %v, and its state of %d turns was of session %d, which has not ended: it was lost%s", a.actor.id,
			a.p.n.id, a.p.boot, a.lease.Epoch, h.value, h.holder, m.history(a.actor.i))
	}
	if a.stillOwned() {
		w.stats.StatesLost++
		h.value = 0
	}
}

// stillOwned reports whether the log has an activation's epoch. One that begins after it was lost runs nothing.
func (a *activation) stillOwned() bool {
	slot := a.p.w.mon.slot(a.actor)
	return slot.Epoch == a.lease.Epoch && slot.Owner == a.p.tenant.Session()
}

// takenIn is I9 for images.
func (m *monitor) takenIn(p *proc, e *core.TenantEffect, c *cargo) {
	w := m.w
	epoch, ok := m.release[e.Part.Move]
	if !ok || epoch != e.Epoch {
		w.fail("I9", "%s#%d takes in move %d under %v, and its release assigned %v", p.n.id, p.boot, e.Part.Move, e.Epoch, epoch)
	}
	if m.took[e.Part.Move] {
		w.fail("I9", "%s#%d takes in move %d for the second time", p.n.id, p.boot, e.Part.Move)
	}
	m.took[e.Part.Move] = true
	if string(c.manifest()) != string(e.Manifest) && !m.tenure(p.tenant.Session()).ended {
		w.fail("I9", "%s#%d takes in move %d with the manifest %x, and has received %x", p.n.id, p.boot, e.Part.Move, e.Manifest, c.manifest())
	}
}

// replied is what a client got.
func (m *monitor) replied(c *call, r reply) {
	if c.actor.kind == kindRow && c.op.add {
		m.acked = append(m.acked, ackedTurn{c.actor, c.id, r.value})
	}
}

// last checks I7 when everything has come to rest.
func (m *monitor) last() {
	w := m.w
	for _, t := range m.acked {
		if v, ok := w.store.rows[t.actor.i].turns[t.id]; !ok || v != t.value {
			w.fail("I7", "request %d to %s was acknowledged with %d, and the store has %d (%v)", t.id, t.actor.id, t.value, v, ok)
		}
	}
	for i, r := range w.store.rows {
		if len(r.turns) != r.value {
			w.fail("I7", "%s has the value %d after %d turns", w.actors[i].id, r.value, len(r.turns))
		}
		for _, a := range w.actors {
			if sent, got := r.sent[a.i], w.store.rows[a.i].marks[i]; sent != got && w.hosted(kindRow) {
				w.fail("I7", "%s has sent %d messages to %s, of which %d took effect; outbox %v", w.actors[i].id, sent, a.id, got, len(r.outbox))
			}
		}
	}
}
