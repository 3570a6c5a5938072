package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func failoverTables(all []*profileRuns) string {
	var doc strings.Builder
	doc.WriteString("\nA node is lost. Times are from the signal: until no other node places actors on it, and until each of its actors has\n" +
		"answered from another node, to callers whose calls have 1 s and 10 s. `failed` is of the latter; `others` are all other actors.\n\n" +
		"| profile | how | runs | noticed | actors | 1 s: p50 | p99 | max | max of the runs | 10 s: p50 | max | failed | others: calls | failed | restarted |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range all {
		lossRow(&doc, p, "SIGKILL", p.kill)
		lossRow(&doc, p, "SIGSTOP", p.stop)
	}
	doc.WriteString("\nA node joins two, or leaves two. `gap` is the longest time without an answer of each actor that moved:\n\n" +
		"| profile | what | runs | took | calls | failed | actors that moved | gap: p50 | p99 | max | gap of the others: max |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range all {
		moveRow(&doc, p, "join", p.join)
		moveRow(&doc, p, "leave (SIGTERM)", p.leave)
	}
	return doc.String()
}

// lossRow writes what came of a node that was lost.
func lossRow(doc *strings.Builder, p *profileRuns, how string, runs []change) {
	var noticed, eager, patient, worst []time.Duration
	var lost, others sums
	for _, c := range runs {
		noticed = append(noticed, c.noticed)
		last := time.Duration(0)
		for _, m := range c.eager {
			eager = append(eager, m.Anew.Sub(c.began))
			last = max(last, eager[len(eager)-1])
		}
		worst = append(worst, last)
		for _, m := range c.lost {
			patient = append(patient, m.Anew.Sub(c.began))
			lost.add(m)
		}
		for _, m := range c.met {
			others.add(m)
		}
	}
	fmt.Fprintf(doc, "| %s | %s | %d | ", p.profile, how, len(runs))
	if len(eager) == 0 {
		doc.WriteString("– | 0 | – | – | – | – | – | – | – | – | – | – |\n")
		return
	}
	slices.Sort(eager)
	slices.Sort(patient)
	fmt.Fprintf(doc, "%s (%s–%s) | %d | %s | %s | %s | %s–%s | %s | %s | %s | %d | %s | %d |\n",
		short(median(noticed)), short(slices.Min(noticed)), short(slices.Max(noticed)), len(eager),
		short(median(eager)), short(eager[len(eager)*99/100]), short(slices.Max(eager)), short(slices.Min(worst)), short(slices.Max(worst)),
		short(median(patient)), short(slices.Max(patient)), lost.failures(), others.calls, others.failures(), others.moves)
}

// moveRow writes what came of a node that joined or left.
func moveRow(doc *strings.Builder, p *profileRuns, what string, runs []change) {
	var total sums
	var gaps, took []time.Duration
	var rest time.Duration
	for _, c := range runs {
		took = append(took, c.took)
		for _, m := range c.met {
			total.add(m)
			if m.Moves > 0 {
				gaps = append(gaps, m.Gap)
			} else {
				rest = max(rest, m.Gap)
			}
		}
	}
	slices.Sort(gaps)
	fmt.Fprintf(doc, "| %s | %s | %d | %s | %d | %s | %d |", p.profile, what, len(runs), short(median(took)), total.calls, total.failures(), len(gaps))
	if len(gaps) == 0 {
		doc.WriteString(" – | – | – |")
	} else {
		fmt.Fprintf(doc, " %s | %s | %s |", short(median(gaps)), short(gaps[len(gaps)*99/100]), short(gaps[len(gaps)-1]))
	}
	fmt.Fprintf(doc, " %s |\n", short(rest))
}

// sums adds up what callers met.
type sums struct {
	calls, failed, moves int
	codes                map[string]int
}

func (s *sums) add(m met) {
	if s.codes == nil {
		s.codes = make(map[string]int)
	}
	s.calls += m.Calls
	s.moves += m.Moves
	for code, n := range m.Failed {
		s.failed += n
		s.codes[code] += n
	}
}

// failures says how many calls failed, and why.
func (s *sums) failures() string {
	if s.failed == 0 {
		return "0"
	}
	var why []string
	for _, code := range slices.Sorted(maps.Keys(s.codes)) {
		why = append(why, fmt.Sprintf("%d %s", s.codes[code], code))
	}
	return fmt.Sprintf("%d of %d: %s", s.failed, s.calls, strings.Join(why, ", "))
}
