package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kinds of faults.
const (
	killOne    = "kill"        // kill -9, and a start after a while
	killLeader = "kill-leader" // the same, of the voters' leader, if it is known; else as written
	bounce     = "bounce"      // kill -9, and a start under the same id at once
	pause      = "pause"       // SIGSTOP, SIGCONT
	cut        = "cut"         // both ways between one side and the other
	deaf       = "deaf"        // nothing arrives at a node
	mute       = "mute"        // nothing that a node sends arrives
	pair       = "pair"        // both ways between two nodes, which others still reach
	restart    = "restart"     // SIGTERM, and a start once it has ended: planned
)

// step is one fault of a schedule.
type step struct {
	Quiet time.Duration // before it
	Kind  string
	Nodes []int         // what it is done to, counted from 0; of a cut the one side, of a pair the one node
	Other []int         // the other side, the other node
	For   time.Duration // how long it lasts; of a restart nothing
}

func (s step) String() string {
	text := s.Kind + " " + names(s.Nodes)
	if len(s.Other) > 0 {
		text += " | " + names(s.Other)
	}
	if s.For > 0 {
		text += fmt.Sprintf(" for %v", s.For)
	}
	return text
}

// violent faults may end a session, and lose what was not on disk.
func (s step) violent() bool { return s.Kind != restart }

func name(i int) string { return fmt.Sprintf("n%d", i+1) }

func names(nodes []int) string {
	all := make([]string, len(nodes))
	for i, n := range nodes {
		all[i] = name(n)
	}
	return strings.Join(all, ",")
}

// plan is what a run does, and with which load.
type plan struct {
	about    string
	clients  int           // beside the probes of each node
	pinned   int           // of them, those that stay with their gateway whatever it answers
	rate     float64       // requests a second of all clients
	deadline time.Duration // of a request, tries included
	actors   int           // registers that are asked
	steps    func(rng *rand.Rand, nodes int, length time.Duration) []step
}

// plans are what can be run, by name.
var plans = map[string]plan{
	"mixed":    {"every kind of fault, in an order of the seed's", 48, 16, 400, 2 * time.Second, 300, mixed},
	"kill":     {"every node is killed once: how long its actors are away, and who else notices", 64, 0, 500, 2 * time.Second, 100, kills},
	"minority": {"cuts 1|4 and 2|3: how soon the minority refuses, and with what", 60, 60, 400, 2 * time.Second, 300, minorities},
	"rolling":  {"every node is restarted once, in order, under load: what fails, what is lost, who waits", 64, 0, 500, 5 * time.Second, 300, rolling},
}

// between is a time from one to another, of whole tenths of a second.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from))).Round(100*time.Millisecond)
}

// mixed deals faults from a shuffled deck, so that each kind comes before any comes again, until the length is used up.
func mixed(rng *rand.Rand, nodes int, length time.Duration) (all []step) {
	var deck []string
	for used := time.Duration(0); ; {
		if len(deck) == 0 {
			deck = []string{killOne, killLeader, bounce, pause, cut, cut, deaf, mute, pair, restart}
			rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		s := step{Kind: deck[0], Quiet: between(rng, 2500*time.Millisecond, 5*time.Second)}
		deck = deck[1:]
		order := rng.Perm(nodes)
		switch s.Kind {
		case cut:
			some := 1 + rng.IntN((nodes-1)/2)
			s.Nodes, s.Other, s.For = order[:some], order[some:], between(rng, 6*time.Second, 11*time.Second)
		case pair:
			s.Nodes, s.Other, s.For = order[:1], order[1:2], between(rng, 5*time.Second, 9*time.Second)
		case deaf, mute:
			s.Nodes, s.For = order[:1], between(rng, 5*time.Second, 10*time.Second)
		case pause:
			s.Nodes, s.For = order[:1], between(rng, time.Second, 10*time.Second)
		case killOne, killLeader:
			s.Nodes, s.For = order[:1], between(rng, 3*time.Second, 8*time.Second)
		case bounce:
			s.Nodes = order[:1]
		case restart:
			s.Nodes = order[:2]
		}
		slices.Sort(s.Nodes)
		slices.Sort(s.Other)
		cost := s.Quiet + s.For
		if s.For == 0 {
			cost += 3 * time.Second * time.Duration(len(s.Nodes)) // what a start takes
		}
		if used += cost; used > length && len(all) > 0 {
			return all
		}
		all = append(all, s)
	}
}

func kills(rng *rand.Rand, nodes int, _ time.Duration) (all []step) {
	for i, n := range rng.Perm(nodes) {
		s := step{Quiet: 6 * time.Second, Kind: killOne, Nodes: []int{n}, For: 8 * time.Second}
		if i == 0 {
			s.Kind = killLeader
		}
		all = append(all, s)
	}
	return all
}

func minorities(rng *rand.Rand, nodes int, _ time.Duration) (all []step) {
	for some := 1; some <= (nodes-1)/2; some++ {
		for range 2 {
			order := rng.Perm(nodes)
			s := step{Quiet: 12 * time.Second, Kind: cut, Nodes: order[:some], Other: order[some:], For: 12 * time.Second}
			slices.Sort(s.Nodes)
			slices.Sort(s.Other)
			all = append(all, s)
		}
	}
	return all
}

func rolling(_ *rand.Rand, nodes int, _ time.Duration) (all []step) {
	for n := range nodes {
		all = append(all, step{Quiet: 6 * time.Second, Kind: restart, Nodes: []int{n}})
	}
	return all
}

// schedule is the faults of a run: the same for the same plan, seed, nodes and length.
func (p plan) schedule(seed uint64, nodes int, length time.Duration) []step {
	return p.steps(rand.New(rand.NewPCG(seed, 0)), nodes, length)
}
