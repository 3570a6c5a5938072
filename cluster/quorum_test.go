package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// assembly is a log of its own, whose table a test writes.
type assembly struct {
	t     *testing.T
	table *core.Table
	index uint64
}

func newAssembly(t *testing.T) *assembly { return &assembly{t: t, table: core.NewTable()} }

// apply puts commands in and returns their ids.
func (a *assembly) apply(commands ...core.Command) []uint64 {
	a.t.Helper()
	a.index++
	results, err := a.table.Apply(a.index, core.AppendEntry(nil, commands...))
	if err != nil {
		a.t.Fatal(err)
	}
	var ids []uint64
	for i, r := range results {
		if r.Void != "" {
			a.t.Fatalf("%s: %s", commands[i].Type, r.Void)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func (a *assembly) open(n Node, kinds ...string) core.SessionID {
	a.t.Helper()
	return core.SessionID(a.apply(core.Command{Type: core.OpenSession, Node: n.ID, Boot: n.Boot, Authority: n.Authority, Kinds: kinds, Speaks: 1})[0])
}

func everything() (all core.PartitionSet) {
	for p := range core.Partition(core.Partitions) {
		all.Add(p)
	}
	return all
}

// tenant is a node in quorum mode whose session a test keeps.
type tenant struct {
	*node
	log     *assembly
	session core.SessionID
	group   core.GroupID
}

// join starts a node in quorum mode that owns every counter.
func join(t *testing.T, change ...func(*Config)) *tenant {
	m := &tenant{log: newAssembly(t)}
	m.node = start(t, append([]func(*Config){func(c *Config) { c.Quorum = true }}, change...)...)
	m.session = m.log.open(self, "counter", "bank")
	m.group = core.GroupID(m.log.apply(core.Command{Type: core.Regroup, Kinds: []string{"bank", "counter"}})[0])
	m.log.apply(core.Command{Type: core.Assign, Group: m.group, Session: m.session, Partitions: everything()})
	m.tell()
	m.renew()
	return m
}

// tell has the node know the log.
func (m *tenant) tell() { m.Runtime().HandleAssigned(m.log.table.Assignments(), m.session) }

func (m *tenant) renew()                 { m.Runtime().HandleSession(time.Now().Add(core.SessionTime)) }
func (m *tenant) lapse()                 { m.Runtime().HandleSession(time.Time{}) }
func (m *tenant) permit(a string) Permit { return m.silo.find(id(a)).req.Permit }

func wantCode(t *testing.T, err error, code abi.Code) {
	t.Helper()
	if abi.CodeOf(err) != code {
		t.Errorf("%v (%s), want %s", err, abi.CodeOf(err), code)
	}
}

func TestPermitFollowsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		p := m.permit("counter/a")
		for range 100 {
			time.Sleep(core.RenewEvery)
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			m.renew()
		}
		time.Sleep(core.SessionTime - time.Nanosecond)
		if err := p.Check(); err != nil {
			t.Errorf("a nanosecond before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		wantCode(t, p.Check(), abi.ErrNoQuorum) // at its end, and not after it

		// It waits, in vain, and not longer than it is to.
		began := time.Now()
		wantCode(t, p.Wait(t.Context(), began.Add(time.Second)), abi.ErrNoQuorum)
		if d := time.Since(began); d != time.Second {
			t.Errorf("it waited for %s", d)
		}
		wantCode(t, p.Wait(t.Context(), began), abi.ErrNoQuorum) // nor at all for what is over
		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		wantCode(t, p.Wait(ctx, began.Add(time.Minute)), abi.ErrNoQuorum) // nor for who has lost patience
		cancel()
		if d := time.Since(began); d != time.Second {
			t.Errorf("it waited for %s", d)
		}

		// A renewal resumes the same activation.
		time.AfterFunc(300*time.Millisecond, m.renew)
		began = time.Now()
		if err := p.Wait(t.Context(), began.Add(time.Minute)); err != nil || time.Since(began) != 300*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		m.ok("counter/a")
		if n := m.silo.activations(); n != 1 {
			t.Errorf("%d activations", n)
		}

		// A session that ends in the log ends it for good, also for who waits.
		m.lapse()
		time.AfterFunc(100*time.Millisecond, func() { m.Runtime().HandleAssigned(m.log.table.Assignments(), 0) })
		began = time.Now()
		wantCode(t, p.Wait(t.Context(), began.Add(time.Minute)), abi.ErrOwnershipChanged)
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("it was told after %s", d)
		}
		m.renew()
		m.tell() // of what is again its own
		wantCode(t, p.Check(), abi.ErrOwnershipChanged)
	})
}

// Many wait for one gate while it opens and closes: nobody is forgotten.
func TestPermitWakesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		m.ok("counter/b")
		a, b := m.permit("counter/a"), m.permit("counter/b")
		for range 20 {
			m.lapse()
			var wg sync.WaitGroup
			for _, p := range []Permit{a, b} {
				for range 50 {
					wg.Go(func() {
						if err := p.Wait(t.Context(), time.Now().Add(time.Hour)); err != nil {
							t.Error(err)
						}
					})
				}
			}
			synctest.Wait()
			began := time.Now()
			m.renew()
			wg.Wait()
			if time.Since(began) > 0 {
				t.Errorf("somebody waited for %s", time.Since(began))
			}
		}
	})
}

// Without a session nothing begins, and it is said at once.
func TestNoQuorumAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		m.lapse()
		for _, key := range []string{"counter/b", "bank/a"} {
			began := time.Now()
			_, err := m.API().Request(t.Context(), id(key), Message{Method: "get", Timeout: 10 * time.Second})
			wantCode(t, err, abi.ErrNoQuorum)
			var re *RequestError
			if !errors.As(err, &re) || time.Since(began) != 0 {
				t.Errorf("%s after %s: %v", key, time.Since(began), err)
			}
			done := make(chan error, 1)
			if err := m.API().Post(env(key), func(_ []byte, err error) { done <- err }); err == nil {
				err = <-done
				wantCode(t, err, abi.ErrNoQuorum)
			} else {
				wantCode(t, err, abi.ErrNoQuorum)
			}
			if time.Since(began) != 0 {
				t.Errorf("a post to %s was refused after %s", key, time.Since(began))
			}
		}
		if _, err := m.API().Get(t.Context(), id("counter/c")); abi.CodeOf(err) != abi.ErrNoQuorum {
			t.Error(err)
		}
		if n := m.silo.activations(); n != 1 {
			t.Errorf("%d activations", n)
		}
		m.renew()
		m.ok("counter/b")
	})
}

// deadTransport reaches nobody, and never says so.
type deadTransport struct{ sent atomic.Int64 }

func (d *deadTransport) Target(Node) (Target, error) { return d, nil }

func (d *deadTransport) Deliver(ctx context.Context, e *abi.Envelope) ([]byte, error) {
	d.sent.Add(1)
	if e.Method == "fast" {
		return nil, nil
	}
	select {
	case <-time.After(time.Until(e.Deadline)):
	case <-ctx.Done():
	}
	return nil, abi.NewError(abi.ErrOutcomeUnknown, "nothing was heard")
}

func (d *deadTransport) Post(*abi.Envelope, func([]byte, error)) error { d.sent.Add(1); return nil }

// What is cached of another node is not asked by who is cut off himself: nothing is known to have been done then.
func TestNoQuorumForWhatIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := &deadTransport{}
		m := join(t, func(c *Config) {
			c.Transport = dead
		})
		far := Node{ID: "n2", Authority: "127.0.0.1:7702", Boot: 2}
		theirs := m.log.open(far, "bank", "counter")
		m.log.apply(core.Command{Type: core.Release, Group: m.group, Session: m.session, Partitions: everything(), Index: m.log.index})
		m.log.apply(core.Command{Type: core.Assign, Group: m.group, Session: theirs, Partitions: everything()})
		m.tell()
		if _, err := m.API().Request(t.Context(), id("counter/a"), Message{Method: "fast"}); err != nil {
			t.Fatal(err)
		}
		sent := dead.sent.Load()
		m.lapse()
		began := time.Now()
		_, err := m.API().Request(t.Context(), id("counter/a"), Message{Method: "get"})
		wantCode(t, err, abi.ErrNoQuorum)
		if err := m.API().Post(env("counter/a"), nil); abi.CodeOf(err) != abi.ErrNoQuorum {
			t.Errorf("post: %v", err)
		}
		if time.Since(began) != 0 || dead.sent.Load() != sent {
			t.Errorf("after %s, %d messages were sent", time.Since(began), dead.sent.Load()-sent)
		}
		m.renew()
		if _, err := m.API().Request(t.Context(), id("counter/a"), Message{Method: "fast"}); err != nil {
			t.Error(err)
		}
	})
}

// Activations are made under the epoch of their partition, each with a number of its own.
func TestLeasesHaveTheEpochOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		first := m.silo.find(id("counter/a")).req.Lease
		want := m.log.table.Assignments()
		slot, _ := want.Slot("counter", core.PartitionOf(id("counter/a")))
		if first.Epoch != slot.Epoch || first.Serial == 0 {
			t.Errorf("%+v, want the epoch %v", first, slot.Epoch)
		}
		m.silo.find(id("counter/a")).end("idle")
		m.ok("counter/a")
		second := m.silo.find(id("counter/a")).req.Lease
		if second.Epoch != first.Epoch || second.Serial <= first.Serial {
			t.Errorf("%+v after %+v", second, first)
		}
		// What is reported of the first does not touch the second.
		m.silo.requests[0].Observer.Terminated(first, "late")
		if _, ok := m.Runtime().Lease(id("counter/a")); !ok {
			t.Error("the second lease is gone")
		}
		m.ok("counter/a")
		if n := m.silo.activations(); n != 2 {
			t.Errorf("%d activations", n)
		}
	})
}

// The same session is given the same partition anew: under another epoch, by another activation.
func TestAnotherEpochOfTheSameOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		old := m.permit("counter/a")
		part := core.PartitionOf(id("counter/a"))
		var one core.PartitionSet
		one.Add(part)
		m.log.apply(core.Command{Type: core.Release, Group: m.group, Session: m.session, Partitions: one, Index: m.log.index})
		m.log.apply(core.Command{Type: core.Assign, Group: m.group, Session: m.session, Partitions: one})
		m.tell()
		wantCode(t, old.Check(), abi.ErrOwnershipChanged)
		m.ok("counter/a")
		if n := m.silo.activations(); n != 2 {
			t.Errorf("%d activations", n)
		}
		if err := m.permit("counter/a").Check(); err != nil {
			t.Error(err)
		}
		lost := m.silo.losses()
		if len(lost) == 0 || lost[len(lost)-1].Partitions == nil || !lost[len(lost)-1].Partitions[part] {
			t.Errorf("%+v", lost)
		}
	})
}

// Messages of an activation that has been replaced since are refused; those of the present one, of clients and of those who are ahead of
// this node are not.
func TestAStaleSenderIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		a := m.log.table.Assignments()
		slot, _ := a.Slot("bank", core.PartitionOf(id("bank/sender")))
		send := func(epoch abi.Epoch, caller Identity) error {
			e := env("counter/a")
			e.Caller, e.SenderEpoch = caller, epoch
			done := make(chan error, 1)
			m.API().Receive(e, "n2", func(_ []byte, err error) { done <- err })
			return <-done
		}
		older := slot.Epoch
		older.Index--
		newer := slot.Epoch
		newer.Index++
		wantCode(t, send(older, id("bank/sender")), abi.ErrDenied)
		wantCode(t, send(abi.Epoch{}, id("bank/sender")), abi.ErrDenied)
		for _, ok := range []error{send(slot.Epoch, id("bank/sender")), send(newer, id("bank/sender")), send(abi.Epoch{}, Identity{}),
			send(abi.Epoch{}, id("unknown/sender"))} {
			if ok != nil {
				t.Error(ok)
			}
		}
	})
}

// A node that is a moment behind the log knows a later activation by its messages, and refuses what an earlier one sends late.
func TestAnOvertakenSenderIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		sender := id("bank/sender")
		slot, _ := m.log.table.Assignments().Slot("bank", core.PartitionOf(sender))
		epoch := func(later uint64) abi.Epoch {
			return abi.Epoch{Generation: slot.Epoch.Generation, Index: slot.Epoch.Index + later}
		}
		send := func(later uint64) error {
			e := env("counter/a")
			e.Caller, e.SenderEpoch = sender, epoch(later)
			done := make(chan error, 1)
			m.API().Receive(e, "n2", func(_ []byte, err error) { done <- err })
			return <-done
		}
		for _, later := range []uint64{0, 2, 2, 4} {
			if err := send(later); err != nil {
				t.Errorf("%d: %v", later, err)
			}
			m.tell() // what the node knows already
		}
		for _, later := range []uint64{0, 2, 3} {
			wantCode(t, send(later), abi.ErrDenied)
		}
		e := env("counter/a")
		e.Caller, e.SenderEpoch = id("bank/another"), epoch(0)
		done := make(chan error, 1)
		m.API().Receive(e, "n2", func(_ []byte, err error) { done <- err })
		if err := <-done; err != nil {
			t.Errorf("one of another partition: %v", err)
		}
	})
}

// A node that makes epochs up has this one refuse the real owner's messages until it has heard of the log as far as that, and no longer; the log of
// the node says who did it.
func TestAnEpochThatIsMadeUpIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		sender := id("bank/sender")
		slot, _ := m.log.table.Assignments().Slot("bank", core.PartitionOf(sender))
		at := m.log.table.Assignments()
		send := func(epoch abi.Epoch, from NodeID) error {
			e := env("counter/a")
			e.Caller, e.SenderEpoch = sender, epoch
			done := make(chan error, 1)
			m.API().Receive(e, from, func(_ []byte, err error) { done <- err })
			return <-done
		}
		ok := func(what string) {
			t.Helper()
			if err := send(slot.Epoch, "n2"); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		ahead := func(by uint64) abi.Epoch { return abi.Epoch{Generation: at.Generation, Index: at.Index + by} }

		wantCode(t, send(ahead(1<<40), "liar"), abi.ErrNotReady)
		wantCode(t, send(abi.Epoch{Generation: at.Generation + 1, Index: 1}, "liar"), abi.ErrNotReady)
		ok("after what nobody believes")
		if err := send(ahead(5), "liar"); err != nil {
			t.Errorf("what may be so: %v", err)
		}
		wantCode(t, send(slot.Epoch, "n2"), abi.ErrDenied)
		m.Runtime().HandleHeard(at.Generation, at.Index+4)
		wantCode(t, send(slot.Epoch, "n2"), abi.ErrDenied)
		if log := m.node.log.String(); strings.Contains(log, "liar") {
			t.Errorf("accused too early: %s", log)
		}
		m.Runtime().HandleHeard(at.Generation, at.Index+5)
		ok("after all is heard")
		if log := m.node.log.String(); !strings.Contains(log, "under an epoch that the voters have never given") || !strings.Contains(log, "node=liar") {
			t.Errorf("nobody is accused: %s", log)
		}
		wantCode(t, send(ahead(5), "liar"), abi.ErrDenied)
		ok("after it was found out")
	})
}

func (m *tenant) part(move core.MoveID) core.Part {
	return core.Part{Move: move, Group: m.group, Kinds: []string{"bank", "counter"}, Partitions: everything()}
}

// While a part is held new messages wait, in order and up to a bound; those that an actor of the part waits for pass. Nothing is lost.
func TestAHeldPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		var mu sync.Mutex
		var got []string
		m.silo.onDeliver = func(_ *activation, e *abi.Envelope) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(e.Payload))
			return e.Payload, nil
		}
		m.ok("counter/a")
		mu.Lock()
		got = nil
		mu.Unlock()
		m.Runtime().HandleHold(m.part(7))

		// A turn of counter/a may still call, and be called back.
		chained := env("counter/b")
		chained.Chain = []Identity{id("counter/a")}
		if _, err := m.API().Send(t.Context(), chained); err != nil {
			t.Errorf("chained: %v", err)
		}
		mu.Lock()
		got = nil
		mu.Unlock()
		const posts = 100
		for i := range posts {
			e := env("counter/a")
			e.Payload, e.Caller, e.SenderEpoch = fmt.Append(nil, i), id("bank/x"), abi.Epoch{Generation: 9}
			if err := m.API().Post(e, nil); err != nil {
				t.Fatal(err)
			}
		}
		answers := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := m.request("counter/a")
				answers <- err
			}()
		}
		synctest.Wait()
		mu.Lock()
		if len(got) != 0 {
			t.Errorf("%d messages came through", len(got))
		}
		mu.Unlock()
		refused := 0
		for range 2 * abi.DefaultMailbox {
			if err := m.API().Post(env("counter/a"), nil); err != nil {
				wantCode(t, err, abi.ErrMailboxFull)
				refused++
			}
		}
		if refused < abi.DefaultMailbox {
			t.Errorf("%d were refused", refused)
		}
		time.Sleep(time.Second)
		m.Runtime().HandleUnhold(7)
		for range 10 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		next := 0
		for _, g := range got {
			if g == fmt.Sprint(next) {
				next++
			}
		}
		if next != posts {
			t.Errorf("%d of %d messages came, in order; %d in all", next, posts, len(got))
		}
		if n := 3*abi.DefaultMailbox + posts; len(got) > n || len(got) < posts+10 {
			t.Errorf("%d messages", len(got))
		}
	})
}

// Those whom an actor of a held part waits for find their way, and open it to nobody else: neither by the activation that they use, nor by one
// that was on its way when the part was held.
func TestAHeldPartStaysHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		m.ok("counter/b")
		open := make(chan struct{})
		m.silo.onActivate = func(req ActivationRequest) error {
			if req.Lease.Identity == id("counter/c") {
				<-open
			}
			return nil
		}
		first := make(chan error, 1)
		go func() {
			_, err := m.request("counter/c")
			first <- err
		}()
		synctest.Wait()
		m.Runtime().HandleHold(m.part(7))
		close(open)
		if err := <-first; err != nil { // it had asked before
			t.Error(err)
		}
		chained := env("counter/b")
		chained.Chain = []Identity{id("counter/a")}
		if _, err := m.API().Send(t.Context(), chained); err != nil {
			t.Errorf("chained: %v", err)
		}
		answers := make(chan error, 2)
		for _, who := range []string{"counter/b", "counter/c"} {
			go func() {
				_, err := m.request(who)
				answers <- err
			}()
		}
		synctest.Wait()
		if n := len(answers); n != 0 {
			t.Errorf("%d requests came through", n)
		}
		m.Runtime().HandleUnhold(7)
		for range 2 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// A part that is sealed lets nothing through, whoever waits for it; an activation on its way keeps it from being sealed.
func TestASealedPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.ok("counter/a")
		part := m.part(7)
		if m.Runtime().HandleSeal(part) {
			t.Error("what is not held was sealed")
		}
		m.Runtime().HandleHold(part)
		if m.Runtime().HandleSeal(part) {
			t.Error("it was sealed with an activation in it")
		}
		m.silo.find(id("counter/a")).end("moved")
		if !m.Runtime().HandleSeal(part) {
			t.Fatal("it was not sealed")
		}
		e := env("counter/b")
		e.Chain, e.Deadline = []Identity{id("counter/a")}, time.Now().Add(time.Second)
		_, err := m.API().Send(t.Context(), e)
		wantCode(t, err, abi.ErrTimeout)
		if n := m.silo.activations(); n != 1 {
			t.Errorf("%d activations", n)
		}
		m.Runtime().HandleUnhold(7)
		m.ok("counter/b")
	})
}

// What nobody owns at present is waited for; the time of the request bounds it.
func TestAnUnownedPartitionIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		m.log.apply(core.Command{Type: core.Release, Group: m.group, Session: m.session, Partitions: everything(), Index: m.log.index})
		m.tell()
		stop := make(chan struct{})
		go func() { // the session goes on
			for {
				select {
				case <-stop:
					return
				case <-time.After(core.RenewEvery):
					m.renew()
				}
			}
		}()
		began := time.Now()
		_, err := m.API().Request(t.Context(), id("counter/a"), Message{Method: "get", Timeout: 2 * time.Second})
		if err == nil || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		time.AfterFunc(time.Second, func() {
			m.log.apply(core.Command{Type: core.Assign, Group: m.group, Session: m.session, Partitions: everything()})
			m.tell()
		})
		began = time.Now()
		m.ok("counter/a")
		if d := time.Since(began); d != time.Second {
			t.Errorf("it was answered after %s", d)
		}
		close(stop)
		synctest.Wait()
	})
}

// An activation that is requested while its partition is lost is revoked as soon as it is there.
func TestAnActivationThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		begun, go_ := make(chan struct{}, 1), make(chan struct{})
		m.silo.onActivate = func(ActivationRequest) error {
			select {
			case begun <- struct{}{}:
				<-go_
			default:
			}
			return nil
		}
		answered := make(chan error, 1)
		go func() {
			_, err := m.API().Request(context.Background(), id("counter/a"), Message{Method: "get", Timeout: 2 * time.Second})
			answered <- err
		}()
		<-begun
		m.log.apply(core.Command{Type: core.Release, Group: m.group, Session: m.session, Partitions: everything(), Index: m.log.index})
		m.tell()
		close(go_)
		if err := <-answered; err == nil {
			t.Error("it was answered by an activation without a right")
		}
		if len(m.silo.revoked) != 1 {
			t.Errorf("%d were revoked", len(m.silo.revoked))
		}
		wantCode(t, m.silo.requests[0].Permit.Check(), abi.ErrOwnershipChanged)
	})
}

// Storm: the log gives and takes while calls run; there is never more than one activation of an actor that may run.
func TestQuorumStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t)
		var turns atomic.Int64
		running := make(map[Identity]int)
		var mu sync.Mutex
		m.silo.onDeliver = func(a *activation, e *abi.Envelope) ([]byte, error) {
			if err := a.req.Permit.Check(); err != nil {
				return nil, err
			}
			mu.Lock()
			if running[e.Target]++; running[e.Target] > 4 {
				t.Error("too many at once")
			}
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			running[e.Target]--
			mu.Unlock()
			if err := a.req.Permit.Check(); err != nil {
				return nil, abi.NewError(abi.ErrOwnershipChanged, "lost")
			}
			turns.Add(1)
			return e.Payload, nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; ctx.Err() == nil; i++ {
					_, err := m.API().Request(ctx, id(fmt.Sprint("counter/", i%8)), Message{Method: "get", Payload: []byte("x"), Timeout: 10 * time.Second})
					if err != nil && ctx.Err() == nil && abi.CodeOf(err) != abi.ErrNoQuorum {
						t.Error(err)
					}
					if err != nil {
						time.Sleep(time.Millisecond) // it is refused at once, and time has to pass
					}
				}
			})
		}
		for i := range 300 {
			time.Sleep(7 * time.Millisecond)
			switch i % 6 {
			case 1:
				m.lapse()
			case 3:
				m.log.apply(core.Command{Type: core.Release, Group: m.group, Session: m.session, Partitions: everything(), Index: m.log.index})
				m.tell()
			case 4:
				m.log.apply(core.Command{Type: core.Assign, Group: m.group, Session: m.session, Partitions: everything()})
				m.tell()
			default:
				m.renew()
			}
		}
		m.renew()
		cancel()
		wg.Wait()
		if turns.Load() < 1000 || m.silo.twice > 0 {
			t.Errorf("%d turns, %d activations of what was active", turns.Load(), m.silo.twice)
		}
	})
}
