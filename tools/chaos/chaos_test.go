package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/netns"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

func TestMain(m *testing.M) {
	netns.Enter()
	goleak.VerifyTestMain(m)
}

// TestAttack is a short run of the real thing: three nodes, a fault of most kinds.
func TestAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	if err := netns.Missing(); err != nil {
		if slices.Contains(strings.Split(os.Getenv("WASILO_REQUIRE"), ","), "netns") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	var say bytes.Buffer
	defer func() {
		if t.Failed() {
			t.Log(say.String())
		}
	}()
	p := plan{clients: 9, pinned: 3, rate: 150, deadline: 2 * time.Second}
	c := &config{plan: "mixed", mode: modeAvailable, seed: 7, nodes: 3, voters: 3, registers: 40, root: root, dir: filepath.Join(t.TempDir(), "run"),
		keep: true, say: &say, load: &p, steps: []step{
			{Kind: killOne, Nodes: []int{1}, For: time.Second},
			{Kind: cut, Nodes: []int{0}, Other: []int{1, 2}, For: time.Second},
			{Kind: mute, Nodes: []int{2}, For: time.Second},
			{Kind: pause, Nodes: []int{0}, For: time.Second},
			{Kind: bounce, Nodes: []int{2}},
			{Kind: restart, Nodes: []int{0}},
		}}
	s, err := c.whole(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Pass || len(s.Fell) > 0 {
		t.Errorf("%q, %q", s.Why, s.Fell)
	}
	// Not much is asked of a machine that runs other tests beside this one.
	if s.Faults != 6 || s.Successes < 50 || s.During == 0 || s.Turns < s.Successes || len(s.Kills) != 2 || len(s.Cuts) != 1 || s.Refused+s.Unknown == 0 {
		t.Errorf("%+v", s)
	}
	for _, k := range s.Kills {
		if k.Actors == 0 || k.Last <= 0 || k.Last > 60 {
			t.Errorf("%+v", k)
		}
	}
	rec, _, _, err := read(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if what := rec.Spans[4].What; !strings.Contains(what, "started again after") {
		t.Error(what)
	}

	// It can be judged again, by what is in its directory, and it begins anew there.
	again, err := c.verdict(0)
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("%v\n%+v\n%+v", err, again, s)
	}
}

// The same seed makes the same schedule, which keeps to its time and deals every kind.
func TestSchedules(t *testing.T) {
	for name, p := range plans {
		kinds := make(map[string]int)
		for seed := range uint64(50) {
			steps := p.schedule(seed, 5, 75*time.Second)
			if !reflect.DeepEqual(steps, p.schedule(seed, 5, 75*time.Second)) {
				t.Fatalf("%s: seed %d has two schedules", name, seed)
			}
			var took time.Duration
			for _, s := range steps {
				kinds[s.Kind]++
				took += s.Quiet + s.For
				if len(s.Nodes) == 0 || s.Quiet < 2*time.Second {
					t.Errorf("%s, seed %d: %v", name, seed, s)
				}
				all := append(slices.Clone(s.Nodes), s.Other...)
				slices.Sort(all)
				if !slices.Equal(slices.Compact(slices.Clone(all)), all) {
					t.Errorf("%s, seed %d: %v is on both sides", name, seed, s)
				}
				if s.Kind == cut && (len(all) != 5 || len(s.Nodes) > 2) {
					t.Errorf("%s, seed %d: %v leaves somebody out, or has no minority", name, seed, s)
				}
			}
			if name == "mixed" && (took > 75*time.Second || took < 50*time.Second) {
				t.Errorf("seed %d takes %v", seed, took)
			}
		}
		if name == "mixed" && len(kinds) != 9 {
			t.Errorf("%v", kinds)
		}
	}
	a, b := fmt.Sprint(plans["mixed"].schedule(1, 5, time.Minute)), fmt.Sprint(plans["mixed"].schedule(2, 5, time.Minute))
	if a == b {
		t.Error("two seeds, one schedule")
	}
}

func TestDrops(t *testing.T) {
	z := &nemesis{nodes: make([]*node, 3)}
	for _, c := range []struct {
		step step
		want []netns.Drop
	}{
		{step{Kind: deaf, Nodes: []int{1}}, []netns.Drop{{From: 0, To: 1}, {From: 2, To: 1}}},
		{step{Kind: mute, Nodes: []int{1}}, []netns.Drop{{From: 1, To: 0}, {From: 1, To: 2}}},
		{step{Kind: pair, Nodes: []int{0}, Other: []int{2}}, []netns.Drop{{From: 0, To: 2}, {From: 2, To: 0}}},
		{step{Kind: cut, Nodes: []int{0}, Other: []int{1, 2}},
			[]netns.Drop{{From: 0, To: 1}, {From: 1, To: 0}, {From: 0, To: 2}, {From: 2, To: 0}}},
		{step{Kind: killOne, Nodes: []int{0}}, nil},
	} {
		if got := z.drops(c.step); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v", c.step, got)
		}
	}
}

const s1 = int64(time.Second)

// made is a small run by hand: n1 is killed at 10 s, then cut off at 30 s until 40 s.
func made() (*record, []verdict.Op, [][]turnlog.Record) {
	rec := &record{Plan: "mixed", Mode: modeQuorum, Seed: 3, Nodes: []string{"n1", "n2"}, From: 0, To: 60 * s1, Steps: []string{"quiet"},
		Spans: []verdict.Span{
			{What: "kill n1 for 5s", Kind: killOne, Nodes: []string{"n1"}, From: 10 * s1, To: 17 * s1, Violent: true},
			{What: "cut <n1> | n2", Kind: cut, Nodes: []string{"n1"}, From: 30 * s1, To: 40 * s1, Violent: true},
		},
		Sides: []side{{Span: 1, Minority: []string{"n1"}}}}
	turn := func(at int64, node, what, actor string, index uint64) turnlog.Record {
		return turnlog.Record{At: at, Node: node, What: what, Actor: actor, Index: index, Activation: index}
	}
	logs := [][]turnlog.Record{
		{turn(1, "n1", turnlog.Enabled, "register/a", 1), turn(2, "n1", turnlog.Checked, "register/a", 1), turn(2, "n1", turnlog.Enabled, "register/b", 2)},
		{turn(1, "n2", turnlog.Enabled, "register/c", 1), turn(12*s1, "n2", turnlog.Enabled, "register/a", 5)},
	}
	n := uint64(0)
	op := func(call, end int64, gateway, actor, outcome, code string, index, turns uint64) verdict.Op {
		n++
		o := verdict.Op{Request: n, Gateway: gateway, Actor: "register/" + actor, Do: verdict.Read, Call: call, Return: end, Outcome: outcome, Code: code}
		if outcome == verdict.OK {
			o.Index, o.N = index, turns
		}
		return o
	}
	ops := []verdict.Op{
		op(1*s1, 2*s1, "n1", "a", verdict.OK, "", 1, 1),
		op(9*s1, 11*s1, "n2", "a", verdict.OK, "", 1, 2), // before the kill
		op(11*s1, 13*s1, "n2", "a", verdict.OK, "", 5, 1),
		op(11*s1, 12*s1, "n2", "b", verdict.Refused, "no_quorum", 0, 0),
		op(14*s1, 15*s1, "n2", "b", verdict.OK, "", 6, 1),
		op(12*s1, 13*s1, "n2", "c", verdict.Unknown, "outcome_unknown", 0, 0),
		op(13*s1, 14*s1, "n1", "c", verdict.Refused, "not_ready", 0, 0), // by the dead one
		op(31*s1, 32*s1, "n1", "a", verdict.OK, "", 5, 2),
		op(32*s1, 33*s1, "n1", "a", verdict.Unknown, "timeout", 0, 0),
		op(33*s1, 33*s1+s1/2, "n1", "a", verdict.Refused, "no_quorum", 0, 0),
		op(35*s1, 36*s1, "n1", "a", verdict.Refused, "no_quorum", 0, 0),
		op(41*s1, 42*s1, "n1", "a", verdict.OK, "", 5, 3),
	}
	return rec, ops, logs
}

func TestMeasures(t *testing.T) {
	rec, ops, logs := made()
	k := measureKills(rec, ops, logs)
	if want := []killed{{Node: "n1", Actors: 2, First: 3, Median: 5, Last: 5, Away: 5, Others: 1, When: 2, Within: 1, Codes: counts{"outcome_unknown": 1}}}; !reflect.DeepEqual(k, want) {
		t.Errorf("%+v", k)
	}
	c := measureCuts(rec, ops)
	want := []parted{{What: "cut <n1> | n2", Minority: []string{"n1"}, First: 3.5, Last: 2, Codes: counts{"no_quorum": 1}, Retry: true, Unknown: 1, Healed: 2}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v", c)
	}
	ops[10].Outcome, ops[10].Code = verdict.Unknown, "timeout"
	if c := measureCuts(rec, ops); c[0].Retry {
		t.Errorf("%+v", c)
	}
	_, ops, _ = made()
	s := measureService(rec, ops)
	if s.Requests != 12 || s.Failed != 6 || s.Share != 0.5 || s.Longest != 2 || s.Codes["no_quorum"] != 3 {
		t.Errorf("%+v", s)
	}
	if s.Pause != 10 || s.Actor != "register/a" { // it answered at 32 s, was asked then, and answered again at 42 s
		t.Errorf("%v %s", s.Pause, s.Actor)
	}
	if g := measureGaps(rec, ops); g[0].Length != 30 || g[0].At != 2 {
		t.Errorf("%+v", g)
	}
}

// Tries of one request count once, by the last of them.
func TestRequests(t *testing.T) {
	all := requests([]verdict.Op{
		{Request: 2, Call: 30, Return: 40, Outcome: verdict.OK, Gateway: "n2"},
		{Request: 1, Call: 5, Return: 9, Outcome: verdict.Unknown, Code: "timeout"},
		{Request: 2, Call: 10, Return: 20, Outcome: verdict.Refused, Code: "no_quorum", Gateway: "n1"},
	})
	if len(all) != 2 || all[0].outcome != verdict.Unknown || *all[1] != (request{call: 10, end: 40, outcome: verdict.OK, gateway: "n2"}) {
		t.Errorf("%+v %+v", all[0], all[1])
	}
}

func TestJudge(t *testing.T) {
	rec, ops, logs := made()
	if s := judge(rec, ops, logs, 0); !s.Pass || s.Successes != 6 || s.During != 4 {
		t.Errorf("%v %+v", s.Why, s)
	}
	if s := judge(rec, ops, logs, leastSuccesses); s.Pass || len(s.Why) != 1 || !strings.Contains(s.Why[0], "say little") {
		t.Errorf("too few: %q", s.Why)
	}
	// An older epoch answers, and takes a turn, at the end.
	stale := ops[0]
	stale.Request, stale.Call, stale.Return, stale.N = 99, 50*s1, 51*s1, 3
	ops = append(ops, stale)
	late := logs[0][1]
	late.At = 50 * s1
	logs[0] = append(logs[0], late)
	s := judge(rec, ops, logs, 0)
	if s.Pass || len(s.Why) != 2 || !strings.Contains(s.Why[0], verdict.CheckOrder) || !strings.Contains(s.Why[1], verdict.CheckFenced) {
		t.Errorf("%q", s.Why)
	}
	rec.Mode = modeAvailable
	if s := judge(rec, ops, logs, 0); !s.Pass || !slices.Contains(s.Findings, finding{verdict.CheckOrder, false, 1}) ||
		!slices.Contains(s.Findings, finding{verdict.CheckFenced, false, 1}) {
		t.Errorf("%q %+v", s.Why, s.Findings)
	}
	rec.Wrong = []string{"n1: panic: why"}
	if s := judge(rec, ops, logs, 0); s.Pass {
		t.Error("a panic passes")
	}
}

// In mode quorum a figure that is missed fails the run of the plan that measures it; elsewhere it is told.
func TestGoals(t *testing.T) {
	rec, ops, logs := made()
	for i := range ops { // the minority answers until the end of the cut, and refuses in words that promise nothing
		if o := &ops[i]; o.Call == 35*s1 {
			o.Outcome, o.Code = verdict.Unknown, "timeout"
		} else if o.Call == 31*s1 {
			o.Return = 39 * s1
		}
	}
	for plan, missed := range map[string]int{"mixed": 0, "kill": 0, "minority": 2, "rolling": 1} {
		rec.Plan, rec.Mode = plan, modeQuorum
		if s := judge(rec, ops, logs, 0); len(s.Why) != missed || s.Pass != (missed == 0) || (len(s.Goals) == 0) != (plan == "mixed") {
			t.Errorf("%s: %q", plan, s.Why)
		}
		rec.Mode = modeAvailable
		if s := judge(rec, ops, logs, 0); !s.Pass {
			t.Errorf("%s, available: %q", plan, s.Why)
		}
	}
}

// The report needs nothing beside it, its picture is well-formed, and no name gets into it as markup.
func TestReport(t *testing.T) {
	rec, ops, logs := made()
	rec.Leads = []verdict.Span{{What: "n2 leads", Nodes: []string{"n2"}, From: 5 * s1, To: 9 * s1}}
	rec.Stalls = []verdict.Span{{What: "the machine stood still for 1s", From: 50 * s1, To: 51 * s1}}
	page, err := report(rec, ops, judge(rec, ops, logs, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"http:", "https:", "src=", "<link", "@import", "<n1>"} {
		if bytes.Contains(page, []byte(bad)) {
			t.Errorf("the report has %q", bad)
		}
	}
	for _, want := range []string{"kill n1 for 5s", "PASS", "-plan mixed -mode quorum -seed 3", "no_quorum 1", "stood still for 1s", "n2 leads"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the report lacks %q", want)
		}
	}
	_, rest, _ := bytes.Cut(page, []byte("<svg"))
	svg, _, ok := bytes.Cut(rest, []byte("</svg>"))
	if !ok {
		t.Fatal("no picture")
	}
	dec := xml.NewDecoder(strings.NewReader("<svg" + string(svg) + "</svg>"))
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestColours(t *testing.T) {
	ok, none := bucket{ok: 1}, bucket{}
	got := colours([]bucket{none, ok, none, none, {ok: 1, refused: 1}, none, none, none, none, none, none, {unknown: 1}})
	grey, green, yellow, red := none.colour(), ok.colour(), bucket{ok: 1, refused: 1}.colour(), bucket{unknown: 1}.colour()
	want := []string{grey, green, green, green, yellow, grey, grey, grey, grey, grey, grey, red}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"-h", exitOK, "mixed"},
		{"-plan nonsense", exitUsage, "Plans:"},
		{"-mode nonsense", exitUsage, "Plans:"},
		{"-nodes 2", exitUsage, "Plans:"},
		{"-voters 7", exitUsage, "Plans:"},
		{"more", exitUsage, "Plans:"},
		{"-judge /nonsense", exitFailed, "/nonsense"},
	} {
		var b strings.Builder
		if code := command(t.Context(), strings.Fields(c.args), &b); code != c.code || !strings.Contains(b.String(), c.says) {
			t.Errorf("%s: %d\n%s", c.args, code, b.String())
		}
	}
}

// A directory that is not a run's is left alone.
func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &config{dir: dir}
	if err := c.prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "-out") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Error(err)
	}
}

// In mode quorum the voters get their list, the others the word that there are some.
func TestNodeArguments(t *testing.T) {
	c := &config{mode: modeQuorum, nodes: 5, voters: 3, dir: "/run", binary: "wasilo"}
	for i := range c.nodes {
		args := c.nodeArgs(i)
		at := slices.Index(args, "--voters")
		switch {
		case i < 3 && (at < 0 || args[at+1] != "n1=10.77.0.1:7701,n2=10.77.0.2:7701,n3=10.77.0.3:7701"):
			t.Errorf("%d: %q", i, args)
		case i >= 3 && (at >= 0 || !slices.Contains(args, "--quorum")):
			t.Errorf("%d: %q", i, args)
		}
	}
	c.mode = modeAvailable
	if args := c.nodeArgs(0); slices.Contains(args, "--voters") || slices.Contains(args, "--quorum") {
		t.Errorf("%q", args)
	}
}
