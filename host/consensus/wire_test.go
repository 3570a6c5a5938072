package consensus

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

func someQuestions() []question {
	return []question{{}, {generation: 1, after: 7}, {generation: 1<<32 - 1, after: 1<<64 - 1, snapshot: 9, offset: 1 << 20}}
}

func someAnswers() []answer {
	return []answer{{generation: 1, index: 5, leader: core.Member{ID: "v1", Authority: "v1:1"}},
		{generation: 1, index: 5, records: []record{{4, core.AppendEntry(nil, opening("n1", "kind"))}, {5, []byte{}}}},
		{generation: 2, index: 9, snapshot: 9, offset: 12, page: []byte("page"), more: true}}
}

func TestWireRoundTrips(t *testing.T) {
	for _, q := range someQuestions() {
		if got, err := readQuestion(q.append(nil)); err != nil || got != q {
			t.Errorf("%+v, %v, want %+v", got, err, q)
		}
	}
	for _, a := range someAnswers() {
		got, err := readAnswer(a.append(nil))
		if a.page == nil {
			a.page = []byte{}
		}
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v, %v, want %+v", got, err, a)
		}
	}
	for _, o := range []outcome{{leader: core.Member{ID: "v1", Authority: "v1:1"}}, {led: true, results: []byte{0x80}}} {
		got, err := readOutcome(o.append(nil))
		if o.results == nil {
			o.results = []byte{}
		}
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("%+v, %v, want %+v", got, err, o)
		}
	}
}

// What a newer node says is refused with its version, not misread.
func TestWireOfTheFuture(t *testing.T) {
	newer := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[1] = wireVersion + 1
		return b
	}
	_, q := readQuestion(newer((&question{}).append(nil)))
	_, a := readAnswer(newer((&answer{}).append(nil)))
	_, p := readProposal(newer(appendProposal(nil, nil)))
	_, o := readOutcome(newer((&outcome{}).append(nil)))
	for _, err := range []error{q, a, p, o} {
		if abi.CodeOf(err) != abi.ErrInvalidArgument || !strings.Contains(err.Error(), fmt.Sprintf("it is of version %d, and this node knows up to %d", wireVersion+1, wireVersion)) {
			t.Errorf("%v", err)
		}
	}
}

func fuzzWire[T any](f *testing.F, seeds [][]byte, read func([]byte) (T, error), write func(T) []byte) {
	for _, s := range seeds {
		f.Add(s)
		f.Add(s[:len(s)-1])
		f.Add(append(bytes.Clone(s), 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := read(b)
		if err != nil {
			if abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := read(write(v))
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("%+v became %+v, %v", v, again, err)
		}
	})
}

func FuzzQuestion(f *testing.F) {
	var seeds [][]byte
	for _, q := range someQuestions() {
		seeds = append(seeds, q.append(nil))
	}
	fuzzWire(f, seeds, readQuestion, func(q question) []byte { return q.append(nil) })
}

func FuzzAnswer(f *testing.F) {
	var seeds [][]byte
	for _, a := range someAnswers() {
		seeds = append(seeds, a.append(nil))
	}
	fuzzWire(f, seeds, readAnswer, func(a answer) []byte { return a.append(nil) })
}

func FuzzProposal(f *testing.F) {
	fuzzWire(f, [][]byte{appendProposal(nil, core.AppendEntry(nil, opening("n1")))}, readProposal, func(e []byte) []byte { return appendProposal(nil, e) })
}

func FuzzOutcome(f *testing.F) {
	fuzzWire(f, [][]byte{(&outcome{led: true, results: []byte{0x80}}).append(nil), (&outcome{leader: core.Member{ID: "v"}}).append(nil)}, readOutcome,
		func(o outcome) []byte { return o.append(nil) })
}

// crowded is a log with so many groups that its snapshot has many pages.
func crowded(t testing.TB, groups int) *Log {
	t.Helper()
	l := NewLog(nil, slog.New(slog.DiscardHandler))
	index := uint64(0)
	put := func(commands ...core.Command) []core.Result {
		index++
		return must(core.ReadResults(l.Apply(index, core.AppendEntry(nil, commands...))))
	}
	var kinds []string
	for i := range groups {
		kinds = append(kinds, fmt.Sprint("kind-", i))
	}
	var sessions []core.SessionID
	for i := range 5 {
		sessions = append(sessions, core.SessionID(put(opening(core.NodeID(fmt.Sprint("n", i)), kinds...))[0].ID))
	}
	members := make([]core.Member, len(sessions))
	for i := range members {
		members[i] = core.Member{ID: core.NodeID(fmt.Sprint("n", i)), Authority: fmt.Sprint("n", i, ":1"), Boot: 1, Weight: 1}
	}
	var owners [core.Partitions]uint16
	core.Rendezvous{}.Place(members, &owners)
	for _, k := range kinds {
		g := core.GroupID(put(core.Command{Type: core.Regroup, Kinds: []string{k}})[0].ID)
		for part := range 5 {
			var some core.PartitionSet
			for p, owner := range owners {
				if int(owner) == part {
					some.Add(core.Partition(p))
				}
			}
			put(core.Command{Type: core.Assign, Group: g, Session: sessions[part], Partitions: some})
		}
	}
	return l
}

// Followers that page through a snapshot at the same time, while the log goes on, all come to its end, and to the same table.
func TestLogPagesToManyFollowers(t *testing.T) {
	l := crowded(t, 1200)
	index := l.table.Index()
	if n := len(l.Snapshot()); n < 3*pageBytes {
		t.Fatalf("a snapshot of %d bytes has no pages to speak of", n)
	}
	var followers [4]*follower
	var tables [4]*core.Table
	for i := range followers {
		followers[i] = &follower{}
	}
	for round, done := 0, 0; done < len(followers); round++ {
		if round > 100 {
			t.Fatalf("%d of %d followers are through after %d rounds", done, len(followers), round)
		}
		for i, f := range followers {
			if tables[i] != nil || i > round { // they do not begin together
				continue
			}
			a, _ := l.read(f.q)
			b := must(readAnswer(a.append(nil)))
			found, err := f.take(&b)
			if err != nil {
				t.Fatal(err)
			}
			if found != nil && found.table != nil {
				tables[i] = found.table
				done++
			}
			index++
			l.Apply(index, core.AppendEntry(nil, core.Command{Type: core.RenewSession, Session: 1}))
		}
	}
	for i, f := range followers {
		for { // the entries since
			a, wait := l.read(f.q)
			if wait != nil {
				break
			}
			found, err := f.take(&a)
			if err != nil || found == nil {
				t.Fatalf("%+v, %v", found, err)
			}
			for _, r := range found.records {
				if _, err := tables[i].Apply(r.index, r.entry); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, k := range []string{"kind-0", "kind-1199"} {
			for p := range core.Partition(core.Partitions) {
				have, _ := tables[i].Assignments().Slot(k, p)
				want, _ := l.table.Assignments().Slot(k, p)
				if have != want {
					t.Fatalf("follower %d: partition %d of %s is %+v, want %+v", i, p, k, have, want)
				}
			}
		}
	}
}

// BenchmarkResidentPublish is what it costs a member with 200 groups to say how it stands.
func BenchmarkResidentPublish(b *testing.B) {
	l := crowded(b, 200)
	m := NewResident(ResidentConfig{Self: core.Member{ID: "n1", Authority: "n1:1", Boot: 1}, Voters: func() []core.Member { return nil }, Log: slog.New(slog.DiscardHandler)})
	m.table = l.table
	m.tenant.Step(&core.TenantInput{Type: core.TenantAdvanced, Table: l.table}, 0)
	m.tenant.Step(&core.TenantInput{Type: core.TenantAnswered, Ask: 1, Session: 2}, time.Millisecond)
	b.ResetTimer()
	for b.Loop() {
		m.publish()
	}
	if m.state.Owned == 0 {
		b.Fatal("it owns nothing")
	}
}

// BenchmarkTenantTick is what it costs a member with 200 groups that time passes.
func BenchmarkTenantTick(b *testing.B) {
	l := crowded(b, 200)
	tenant := core.NewTenant(core.TenantConfig{Node: "n1", Boot: 1, Authority: "n1:1", Kinds: []string{"kind-0"}}, l.table)
	tenant.Step(&core.TenantInput{Type: core.TenantTick}, 0)
	tenant.Step(&core.TenantInput{Type: core.TenantAnswered, Ask: 1, Session: 2}, time.Millisecond)
	now := time.Millisecond
	for b.Loop() {
		now += 50 * time.Millisecond
		tenant.Step(&core.TenantInput{Type: core.TenantTick}, now)
	}
}

// BenchmarkChairTick is what it costs the leader that time passes, with 200 groups that are where they should be.
func BenchmarkChairTick(b *testing.B) {
	l := crowded(b, 200)
	chair := core.NewChair(l.table, nil, 0)
	chair.Led(0)
	chair.Barrier(0)
	now := time.Duration(0)
	for b.Loop() {
		now += 50 * time.Millisecond
		if now < core.Settle+time.Second {
			now += core.Settle
		}
		l.table.Apply(l.table.Index()+1, core.AppendEntry(nil, core.Command{Type: core.RenewSession, Session: 1}, core.Command{Type: core.RenewSession, Session: 2},
			core.Command{Type: core.RenewSession, Session: 3}, core.Command{Type: core.RenewSession, Session: 4}, core.Command{Type: core.RenewSession, Session: 5}))
		chair.Applied(now)
		if commands := chair.Tick(now, false); len(commands) > 0 && commands[0].Type == core.ExpireSession {
			b.Fatalf("%+v", commands)
		}
	}
}
