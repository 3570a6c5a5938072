package main

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

// seconds is a time as the summary has it, in milliseconds' precision.
type seconds float64

func since(from, to int64) seconds {
	return seconds(math.Round(time.Duration(to-from).Seconds()*1000) / 1000)
}

// request is all attempts at one.
type request struct {
	actor, gateway string
	call, end      int64 // of the first attempt, of the last one
	outcome        string
	code           string // of the last one
	probe          bool
}

// requests puts attempts together, in order of their calls.
func requests(ops []verdict.Op) []*request {
	byNumber := make(map[uint64]*request)
	for i := range ops {
		o := &ops[i]
		q := byNumber[o.Request]
		if q == nil {
			q = &request{actor: o.Actor, call: o.Call, probe: o.Probe}
			byNumber[o.Request] = q
		}
		q.call = min(q.call, o.Call)
		if o.Return > q.end {
			q.end, q.outcome, q.code, q.gateway = o.Return, o.Outcome, o.Code, o.Gateway
		}
	}
	all := slices.Collect(maps.Values(byNumber))
	slices.SortFunc(all, func(a, b *request) int { return cmp.Compare(a.call, b.call) })
	return all
}

// killed is what a kill -9 cost.
type killed struct {
	Node   string  `json:"node"`
	Actors int     `json:"actors"`      // that lived there, and were asked for afterwards
	First  seconds `json:"first"`       // from the kill until one of them answers again
	Median seconds `json:"median"`      // until half of them have
	Last   seconds `json:"last"`        // until each has that was asked for
	Away   seconds `json:"away"`        // until the last of those answers that were asked earlier, and did not answer at once
	Never  int     `json:"never"`       // of them, those that were asked for and did not answer in the run
	Others int     `json:"others"`      // requests by other gateways to other actors that failed
	Over   seconds `json:"over"`        // from the first of them to the last
	Within int     `json:"within"`      // seconds of the run in which one failed
	When   seconds `json:"when"`        // from the kill to the first of them
	Codes  counts  `json:"codes"`       // of them
	Tries  int     `json:"other_tries"` // single tries of such requests that were refused, most of which succeeded at last
}

// atOnce is how long an answer takes where nothing is wrong, at most.
const atOnce = 100 * time.Millisecond

type counts map[string]int

// kills measures every kill -9 of a run. What happens to a request counts for the last kill before it.
func measureKills(rec *record, ops []verdict.Op, logs [][]turnlog.Record) (all []killed) {
	reqs := requests(ops)
	for i, s := range rec.Spans {
		if s.Kind != killOne && s.Kind != bounce {
			continue
		}
		until := rec.To
		for _, later := range rec.Spans[i+1:] {
			until = min(until, max(later.From, s.To))
		}
		k := killed{Node: s.Nodes[0], Codes: counts{}}
		homes := verdict.Homes(logs, s.From)
		answers := make(map[string]int64) // when each first answered
		asked := make(map[string]int64)   // when it was first asked
		for i := range ops {
			o := &ops[i]
			if homes[o.Actor] != k.Node || o.Call < s.From || o.Call > until {
				continue
			}
			first, known := answers[o.Actor]
			if !known {
				first, asked[o.Actor] = math.MaxInt64, o.Call
			}
			asked[o.Actor] = min(asked[o.Actor], o.Call)
			if o.Outcome == verdict.OK {
				first = min(first, o.Return)
			}
			answers[o.Actor] = first
		}
		times := slices.Sorted(maps.Values(answers))
		k.Actors = len(times)
		for len(times) > 0 && times[len(times)-1] == math.MaxInt64 {
			times = times[:len(times)-1]
			k.Never++
		}
		if n := len(times); n > 0 {
			k.First, k.Median, k.Last = since(s.From, times[0]), since(s.From, times[n/2]), since(s.From, times[n-1])
		}
		for actor, at := range answers {
			if at < math.MaxInt64 && time.Duration(at-asked[actor]) > atOnce {
				k.Away = max(k.Away, since(s.From, at))
			}
		}
		var first, last int64
		within := make(map[int64]bool)
		for _, q := range reqs {
			home, known := homes[q.actor]
			if !known || home == k.Node || q.gateway == k.Node || q.probe || q.call < s.From || q.end > until || q.outcome == verdict.OK {
				continue
			}
			if k.Others == 0 {
				first = q.call
			}
			k.Others++
			k.Codes[q.code]++
			last = max(last, q.call)
			within[(q.call-s.From)/int64(time.Second)] = true
		}
		if k.Others > 0 {
			k.Over, k.When = since(first, last), since(s.From, first)
		}
		k.Within = len(within)
		for i := range ops {
			o := &ops[i]
			if home, known := homes[o.Actor]; known && home != k.Node && o.Gateway != k.Node && !o.Probe && o.Call >= s.From && o.Call <= until &&
				o.Outcome == verdict.Refused {
				k.Tries++
			}
		}
		all = append(all, k)
	}
	return all
}

// parted is what a cut did to the minority.
type parted struct {
	What     string   `json:"what"`
	Minority []string `json:"minority"`
	First    seconds  `json:"first_refusal"` // from the cut until a gateway of the minority refuses; 0: none did
	Last     seconds  `json:"last_success"`  // from the cut until the last answer by one
	Late     int      `json:"late"`          // answers after 3 s
	Codes    counts   `json:"codes"`         // of what did not succeed, if it was begun after 3 s
	Retry    bool     `json:"retryable"`     // they all say that nothing was done
	Unknown  int      `json:"unknown"`       // of what was begun in the first 3 s
	Healed   seconds  `json:"healed"`        // from the heal until each of its gateways has answered again
}

// minorityTime is how long a minority may go on.
const minorityTime = 3 * time.Second

func measureCuts(rec *record, ops []verdict.Op) (all []parted) {
	for _, side := range rec.Sides {
		s := rec.Spans[side.Span]
		p := parted{What: s.What, Minority: side.Minority, Codes: counts{}, Retry: true}
		healed := make(map[string]int64)
		for i := range ops {
			o := &ops[i]
			if !slices.Contains(side.Minority, o.Gateway) || o.Call < s.From {
				continue
			}
			late := o.Call > s.From+int64(minorityTime)
			switch {
			case o.Call > s.To:
				if o.Outcome == verdict.OK && (healed[o.Gateway] == 0 || o.Return < healed[o.Gateway]) {
					healed[o.Gateway] = o.Return
				}
			case o.Outcome == verdict.OK:
				if o.Return > s.To {
					continue // it waited until the heal
				}
				p.Last = max(p.Last, since(s.From, o.Return))
				if o.Return > s.From+int64(minorityTime) {
					p.Late++
				}
			case o.Outcome == verdict.Refused && (p.First == 0 || since(s.From, o.Return) < p.First):
				p.First = since(s.From, o.Return)
			}
			switch {
			case o.Call > s.To || o.Outcome == verdict.OK:
			case late:
				p.Codes[o.Code]++
				p.Retry = p.Retry && o.Outcome == verdict.Refused
			case o.Outcome == verdict.Unknown:
				p.Unknown++
			}
		}
		for _, at := range healed {
			p.Healed = max(p.Healed, since(s.To, at))
		}
		all = append(all, p)
	}
	return all
}

// served is what clients met in the whole run, tries put together. Probes do not count.
type served struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"` // after all tries
	Share    float64 `json:"failed_share"`
	Codes    counts  `json:"codes"` // of the last try of those
	Pause    seconds `json:"worst_pause"`
	Actor    string  `json:"worst_actor"` // whose pause it is
	P99      seconds `json:"p99"`         // of requests that succeeded
	Longest  seconds `json:"longest"`
}

func measureService(rec *record, ops []verdict.Op) served {
	s := served{Codes: counts{}}
	byActor := make(map[string][]*request)
	var took []int64
	for _, q := range requests(ops) {
		if q.probe || q.call > rec.To {
			continue
		}
		byActor[q.actor] = append(byActor[q.actor], q)
		s.Requests++
		if q.outcome != verdict.OK {
			s.Failed++
			s.Codes[q.code]++
			continue
		}
		took = append(took, q.end-q.call)
	}
	if s.Requests > 0 {
		s.Share = float64(s.Failed) / float64(s.Requests)
	}
	if slices.Sort(took); len(took) > 0 {
		s.P99, s.Longest = since(0, took[len(took)*99/100]), since(0, took[len(took)-1])
	}
	for _, actor := range slices.Sorted(maps.Keys(byActor)) {
		if p := worstPause(byActor[actor]); p > s.Pause {
			s.Pause, s.Actor = p, actor
		}
	}
	return s
}

// worstPause is the longest that an actor answered nobody while somebody asked. The requests are in order of their calls.
func worstPause(reqs []*request) (worst seconds) {
	var ends []int64
	for _, q := range reqs {
		if q.outcome == verdict.OK {
			ends = append(ends, q.end)
		}
	}
	slices.Sort(ends)
	before := int64(math.MinInt64)
	for _, end := range ends {
		asked := int64(math.MaxInt64)
		for _, q := range reqs {
			if q.end > before && q.call < end {
				asked = min(asked, q.call)
			}
		}
		worst = max(worst, since(max(before, asked), end))
		before = end
	}
	return worst
}

// gap is the longest time without an answer by a gateway.
type gap struct {
	Node   string  `json:"node"`
	Length seconds `json:"length"`
	At     seconds `json:"at"` // since the load began
}

func measureGaps(rec *record, ops []verdict.Op) (all []gap) {
	for _, id := range rec.Nodes {
		var ends []int64
		for i := range ops {
			if o := &ops[i]; o.Gateway == id && o.Outcome == verdict.OK {
				ends = append(ends, o.Return)
			}
		}
		slices.Sort(ends)
		g := gap{Node: id}
		before := rec.From
		for _, end := range append(ends, rec.To) {
			if d := since(before, end); d > g.Length {
				g.Length, g.At = d, since(rec.From, before)
			}
			before = end
		}
		all = append(all, g)
	}
	return all
}
