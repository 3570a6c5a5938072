package host

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
)

// played is how a node stands as a test has it: the partitions that it owns, and the moves under way. A second a row, and the last one for ever.
type played struct {
	began time.Time
	rows  [][2]int
}

func (p *played) Standing() (consensus.Standing, <-chan struct{}) {
	at := time.Since(p.began)
	row, changed := p.rows[min(int(at/time.Second), len(p.rows)-1)], make(chan struct{})
	time.AfterFunc(time.Second-at%time.Second, func() { close(changed) })
	return consensus.Standing{Session: 1, Until: time.Now().Add(time.Second), Owned: row[0], Moving: row[1], Takers: true}, changed
}

// during is so many seconds of one row.
func during(seconds, owned, moving int) (rows [][2]int) {
	for range seconds {
		rows = append(rows, [2]int{owned, moving})
	}
	return rows
}

// A node that drains waits for the moves that are under way, and for those that are tried again.
func TestADrainWaitsForItsMoves(t *testing.T) {
	again := int(core.MoveAgain / time.Second)
	type play [][][2]int
	for name, c := range map[string]struct {
		rows  play
		took  time.Duration
		words string // of the error; "": there is none
	}{
		"nothing there":                {play{during(1, 0, 0)}, 0, ""},
		"a turn that takes long":       {play{during(1, 32, 0), during(25, 32, 1), during(1, 0, 0)}, 26 * time.Second, ""},
		"a turn that takes too long":   {play{during(1, 32, 0), during(1, 32, 2)}, core.MoveTimeout, "32 partitions are still with this node: of 2 moves that are under way none"},
		"one after the other":          {play{during(25, 64, 1), during(25, 32, 1), during(1, 0, 0)}, 50 * time.Second, ""},
		"a hand-over that failed":      {play{during(1, 32, 1), during(again+1, 32, 0), during(1, 32, 1), during(1, 0, 0)}, time.Duration(again+3) * time.Second, ""},
		"one that took long to fail":   {play{during(12, 32, 1), during(again+1, 32, 0), during(2, 32, 1), during(1, 0, 0)}, time.Duration(again+15) * time.Second, ""},
		"ones that fail and fail":      {play{during(1, 32, 1), during(again, 32, 0), during(1, 32, 1), during(again, 32, 0), during(1, 32, 1), during(1, 32, 0)}, time.Duration(2*again+2)*time.Second + standstill, "32 partitions stay with this node: no other node has taken any"},
		"nobody begins":                {play{during(1, 32, 0)}, standstill, "no other node has taken any for 8s"},
		"a move to it":                 {play{during(5, 0, 1), during(1, 0, 0)}, 5 * time.Second, ""},
		"a move to it that arrives":    {play{during(5, 0, 1), during(5, 32, 0), during(5, 32, 1), during(1, 0, 0)}, 15 * time.Second, ""},
		"a move to it that never ends": {play{during(1, 0, 1)}, core.MoveTimeout, "0 partitions are still with this node: of 1 moves"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &played{time.Now(), slices.Concat(c.rows...)}
				err := awaitMoves(t.Context(), p, 0)
				if took := time.Since(p.began).Round(0); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
					t.Errorf("%v, want %q", err, c.words)
				}
			})
		})
	}
}

// What comes after the moves has its time, however long they take.
func TestSparing(t *testing.T) {
	for _, c := range []struct{ has, later, want time.Duration }{
		{ShutdownTime, finishTime + partTime, moveTime},
		{ShutdownTime - moveTime, partTime, finishTime},
		{5 * time.Minute, finishTime + partTime, 5*time.Minute - finishTime - partTime},
		{30 * time.Second, 20 * time.Second, 15 * time.Second}, // half of it at least
		{time.Second, 20 * time.Second, time.Second / 2},
		{0, 20 * time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), c.has)
			defer cancel()
			sparing, cancel := sparing(ctx, c.later)
			defer cancel()
			<-sparing.Done()
			if took := time.Since(began); took != c.want {
				t.Errorf("of %v, with %v for later, there are %v, want %v", c.has, c.later, took, c.want)
			}
		})
	}
	if endless, cancel := sparing(t.Context(), partTime); endless.Err() != nil {
		t.Error("it has ended")
	} else if cancel(); endless.Err() == nil {
		t.Error("it does not end")
	}
	if ShutdownTime+5*time.Second >= 90*time.Second { // with what `wasilo dev --nodes` adds
		t.Errorf("systemd kills a node before its %v are over", ShutdownTime)
	}
}

// A guest's turn ends with the time of the shutdown, however long it might go on, and its caller is not told to send the message again.
func TestAShutdownEndsTurns(t *testing.T) {
	for file, kind := range map[string]string{"hostile/loop.wasm": "hostile_loop", "hostile/sleep.wasm": "hostile_sleep"} {
		t.Run(kind, func(t *testing.T) {
			n := idleNode(t, Config{ActorsDir: actorsDir(t, file), DataDir: t.TempDir(), CacheDir: filepath.Join(compiled, "cache"),
				Limits: Limits{Turn: 100 * hang, Request: 100 * hang}})
			if err := n.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			called := make(chan error, 1)
			go func() { _, err := callFor(n, kind+"/a", "run", "", 100*hang); called <- err }()
			eventually(t, "the turn", func() bool { return n.counters.of(kind).Turns.Load() > 0 })
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := n.Shutdown(ctx)
			if took := time.Since(began); took > hang {
				t.Errorf("it took %v", took)
			}
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cut off before they had finished: 1") {
				t.Errorf("%v", err)
			}
			wantCode(t, <-called, abi.ErrInternal, "the turn was cut off")
		})
	}
}

// A node whose moves take all their time leaves in good order all the same: it gives its session up, and is not taken for one that was lost.
func TestAfterItsMovesANodeHasTimeToLeave(t *testing.T) {
	p := newParliament(t, 1)
	sleeper := func(c *Config) {
		c.ActorsDir, c.CacheDir = actorsDir(t, "hostile/sleep.wasm"), filepath.Join(compiled, "cache")
		c.Limits = Limits{Turn: 100 * hang, Request: 100 * hang}
	}
	p.enter(p.seat("v1", sleeper), p.seat("n2", sleeper))
	v1, n2 := p.nodes["v1"], p.nodes["n2"]
	delete(p.nodes, "n2")
	name := ""
	for i := 0; name == ""; i++ {
		if s := "hostile_sleep/" + strconv.Itoa(i); p.owner("v1", s) == "n2" {
			name = s
		}
	}
	called := make(chan error, 1)
	go func() { _, err := callFor(v1, name, "run", "", 100*hang); called <- err }()
	p.until("the turn", func() bool { return n2.counters.of("hostile_sleep").Turns.Load() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second) // 6 for the moves, 3 for the turn, 3 to go
	defer cancel()
	if err := n2.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "cut off before they had finished: 1") || strings.Contains(err.Error(), "gossip") {
		t.Errorf("%v", err)
	}
	if err := <-called; err == nil || abi.CodeOf(err).Retryable() {
		t.Errorf("the caller of the turn: %v", err)
	}
	if s, _ := n2.quorum.resident.Standing(); !s.Closed {
		t.Error("it has not given its session up")
	}
}
