package main

import (
	"fmt"
	"time"

	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// A run that says less than this says nothing.
const (
	leastSuccesses = 10_000
	leastDuring    = 0.2 // of them, where the plan is about faults
)

// grace is how long after a violent fault what it did may show: a session, and a replanning.
const grace = 8 * time.Second

// finding is one check and what it found.
type finding struct {
	Check    string `json:"check"`
	Promised bool   `json:"promised"` // in this mode: else what it finds is told, and no failure
	Found    int    `json:"found"`
}

// goal is a figure to reach, by the plan that measures it.
type goal struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Limit float64 `json:"limit"` // at most
}

func (g goal) Met() bool { return g.Value <= g.Limit }

// goals are those of the mode quorum with five nodes and profile lan. In mode available they are told, and fail no run.
func (s *summary) goals() (all []goal) {
	switch s.Plan {
	case "kill":
		for _, k := range s.Kills {
			all = append(all,
				goal{"kill of " + k.Node + ": seconds until its actors answer", float64(k.Away), 5},
				goal{"kill of " + k.Node + ": of its actors, those that do not answer again", float64(k.Never), 0},
				goal{"kill of " + k.Node + ": seconds of the run in which a request elsewhere fails", float64(k.Within), 1})
		}
	case "minority":
		for _, c := range s.Cuts {
			codes := 0.0 // that promise nothing
			if !c.Retry {
				codes = 1
			}
			all = append(all,
				goal{c.What + ": seconds until the minority's last answer", float64(c.Last), minorityTime.Seconds()},
				goal{c.What + ": refusals of the minority after that are not all retryable", codes, 0})
		}
	case "rolling":
		all = append(all,
			goal{"share of requests that fail after all tries", s.Service.Share, 0.001},
			goal{"states lost by planned moves", float64(s.Moves - s.Kept), 0})
	}
	return all
}

// summary is a run in figures.
type summary struct {
	Plan       string             `json:"plan"`
	Mode       string             `json:"mode"`
	Seed       uint64             `json:"seed"`
	Commit     string             `json:"commit"`
	Date       time.Time          `json:"date"`
	Machine    string             `json:"machine"`
	Length     seconds            `json:"length"`
	Pass       bool               `json:"pass"`
	Why        []string           `json:"why"` // it does not
	Faults     int                `json:"faults"`
	Successes  int                `json:"successes"`
	During     int                `json:"during"` // of them, those that overlap a fault
	Refused    int                `json:"refused"`
	Unknown    int                `json:"unknown"`
	Actors     int                `json:"actors"`
	Epochs     int                `json:"epochs"`
	Moves      int                `json:"planned_moves"` // of actors that hibernate
	Kept       int                `json:"kept"`          // of them, those that went on with their state
	Lost       int                `json:"lost_by_fault"`
	Turns      int                `json:"turn_records"`
	Lives      int                `json:"activations"`
	Double     int                `json:"double_lives"` // pairs of activations of one actor that took turns at once
	Longest    seconds            `json:"longest_double_life"`
	Settled    seconds            `json:"settled"` // after the end of a fault, the longest that an actor went on living twice
	Fell       []string           `json:"ended_by_themselves"`
	Stalls     []string           `json:"stalls"` // of the machine
	Findings   []finding          `json:"findings"`
	Goals      []goal             `json:"goals,omitempty"`
	Gaps       []gap              `json:"longest_gaps"`
	Kills      []killed           `json:"kills,omitempty"`
	Cuts       []parted           `json:"cuts,omitempty"`
	Service    served             `json:"service"`
	Violations verdict.Violations `json:"violations"` // the first of each check
}

// checks are all there are, in the order of the report; anywhere says that the mode available promises it too.
var checks = []struct {
	name     string
	anywhere bool
}{
	{verdict.CheckLinear, false},
	{verdict.CheckOrder, false},
	{verdict.CheckOnce, false},
	{verdict.CheckBegan, false},
	{verdict.CheckMove, false},
	{verdict.CheckTwice, true},
	{verdict.CheckRefused, true},
	{verdict.CheckInvented, true},
	{verdict.CheckFailed, true},
	{verdict.CheckFenced, false},
	{verdict.CheckAssigned, false},
	{verdict.CheckDisjoint, false},
}

// settleTime is how long after a heal an actor may go on living twice, in the mode that lets it.
const settleTime = 10 * time.Second

// mostShown bounds what is shown of one check.
const mostShown = 5

// judge holds a run against what its mode promises. With fewer successes than least, or too few of them during faults, it says nothing, and
// does not pass; 0: it may.
func judge(rec *record, ops []verdict.Op, logs [][]turnlog.Record, least int) *summary {
	quorum := rec.Mode == modeQuorum
	opt := verdict.Options{Hibernates: hibernates, Ordered: quorum, Faults: rec.Spans, Grace: grace}
	r := verdict.Registers(ops, opt)
	t := verdict.Turns(logs, quorum)
	all := append(r.Violations, t.Violations...)
	if !quorum { // epochs of different nodes mean nothing to each other here; that the checkers see as much is worth knowing
		opt.Ordered = true
		for _, v := range append(verdict.Registers(ops, opt).Violations, verdict.Turns(logs, true).Violations...) {
			switch v.Check {
			case verdict.CheckOrder, verdict.CheckFenced, verdict.CheckAssigned:
				all = append(all, v)
			}
		}
	}
	s := &summary{Plan: rec.Plan, Mode: rec.Mode, Seed: rec.Seed, Commit: rec.Commit, Date: rec.Date, Machine: machine(),
		Length: since(rec.From, rec.To), Faults: len(rec.Spans), Successes: r.OK, During: r.During, Refused: r.Refused, Unknown: r.Unknown,
		Actors: r.Actors, Epochs: r.Epochs, Moves: r.Moves, Kept: r.Kept, Lost: r.Lost, Turns: t.Records, Lives: t.Activations,
		Double: t.Double, Longest: since(0, int64(t.Longest)), Fell: rec.Fell, Gaps: measureGaps(rec, ops),
		Kills: measureKills(rec, ops, logs), Cuts: measureCuts(rec, ops), Service: measureService(rec, ops)}
	for _, stall := range rec.Stalls {
		s.Stalls = append(s.Stalls, fmt.Sprintf("%v s: %s", since(rec.From, stall.From), stall.What))
	}
	shown := make(map[string]int)
	for _, v := range all {
		if shown[v.Check]++; shown[v.Check] <= mostShown {
			s.Violations = append(s.Violations, v)
		}
	}
	s.Why = append(s.Why, rec.Wrong...)
	if s.Settled = since(0, int64(t.Settled(rec.Spans))); float64(s.Settled) > settleTime.Seconds() {
		s.Why = append(s.Why, fmt.Sprintf("an actor still lived twice %v s after the end of the last fault, at most %v", s.Settled, settleTime))
	}
	for _, c := range checks {
		f := finding{Check: c.name, Promised: quorum || c.anywhere, Found: shown[c.name]}
		s.Findings = append(s.Findings, f)
		if f.Promised && f.Found > 0 {
			s.Why = append(s.Why, fmt.Sprintf("%d violations of %q", f.Found, f.Check))
		}
	}
	s.Goals = s.goals()
	for _, g := range s.Goals {
		if quorum && !g.Met() {
			s.Why = append(s.Why, fmt.Sprintf("%s: %v, at most %v", g.What, g.Value, g.Limit))
		}
	}
	if least > 0 {
		if r.OK < least {
			s.Why = append(s.Why, fmt.Sprintf("%d successes say little: at least %d", r.OK, least))
		}
		if rec.Plan != "rolling" && float64(r.During) < leastDuring*float64(r.OK) {
			s.Why = append(s.Why, fmt.Sprintf("%d of %d successes were during faults: at least %.0f %%", r.During, r.OK, 100*leastDuring))
		}
	}
	s.Pass = len(s.Why) == 0
	return s
}
