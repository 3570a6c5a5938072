package host

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
)

// A voter whose disk fails costs its vote and nothing else: its node goes on with its session and its actors, calls through it and to it
// succeed, and it says which disk it was and what to do. The other two still are a majority.
func TestAVotersDiskFails(t *testing.T) {
	p := newParliament(t, 3)
	often := func(cfg *Config) {
		steady := cfg.Net.voter
		cfg.Net.voter = func(v *consensus.VoterConfig) {
			steady(v)
			v.SnapshotEvery, v.Trailing, v.SnapshotCheck = 20, 5, 100*time.Millisecond
		}
	}
	p.enter(p.seat("v1", nil, counting("count")), p.seat("v2", often, counting("count")), p.seat("v3", nil, counting("count")))
	const actors = 60
	add := func() {
		t.Helper()
		for i := range actors {
			p.until("it is answered", func() bool { // there may be no leader for a moment, and no session on a machine that stalls
				_, err := call(p.nodes[p.all[i%3]], "count/"+strconv.Itoa(i), "add", "")
				if code := abi.CodeOf(err); err != nil && !code.Retryable() && code != abi.ErrOutcomeUnknown {
					t.Fatal(err)
				}
				return err == nil
			})
		}
	}
	add()
	snapshots := filepath.Join(p.dirs["v2"], "raft", "snapshots")
	kept := []string{}
	p.until("the directory of snapshots is away", func() bool { // one may be written just now, and make it again
		away := filepath.Join(p.dirs["v2"], "away"+strconv.Itoa(len(kept)))
		if err := os.Rename(snapshots, away); err == nil {
			kept = append(kept, away)
		}
		return os.WriteFile(snapshots, nil, 0o600) == nil
	})
	broken := p.nodes["v2"]
	p.until("the voter has failed", func() bool { return broken.quorum.voterDown.Load() != nil })
	add()
	said := false
	for _, c := range broken.Ready().Checks {
		if c.Name == "voter" {
			said = !c.OK && strings.Contains(c.Detail, snapshots) && strings.Contains(c.Detail, "start the node again")
		}
	}
	if !said {
		t.Errorf("the node says %+v", broken.Ready())
	}
	p.until("a voter with a disk leads", func() bool { return p.leader() != "v2" }) // its own may still be on its way out
	p.live()
	if r := broken.Ready(); !r.Ready {
		t.Errorf("the node says %+v", r)
	}
	add()
	if len(broken.Actors(gateway.ActorQuery{Kind: "count", Limit: actors}).Actors) == 0 {
		t.Error("it has no actors")
	}

	// With its disk it is a voter again.
	p.leave("v2")
	if err := os.Remove(snapshots); err != nil {
		t.Fatal(err)
	}
	for _, away := range kept {
		if err := os.CopyFS(snapshots, os.DirFS(away)); err != nil {
			t.Fatal(err)
		}
	}
	p.enter(p.seat("v2", nil, counting("count")))
	p.until("it votes", func() bool { return p.nodes["v2"].quorum.voter.State() == consensus.Voting })
	if why := p.nodes["v2"].quorum.voterDown.Load(); why != nil {
		t.Error(*why)
	}
}
