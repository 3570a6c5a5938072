package host

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
)

// What a node hosts changes while a drain begins or is taken back: neither goes back to what the other found.
func TestHostsChangeWithADrain(t *testing.T) {
	q := &quorum{cfg: &Config{}, resident: consensus.NewResident(consensus.ResidentConfig{Log: slog.New(slog.DiscardHandler)})}
	for i := range 5000 {
		kinds, is := []string{fmt.Sprint("kind-", i)}, i%2 == 0
		var both sync.WaitGroup
		both.Go(func() { q.setDraining(is) })
		both.Go(func() { q.host(kinds) })
		both.Wait()
		if !slices.Equal(q.kinds, kinds) || q.draining != is {
			t.Fatalf("it hosts %v, draining %t; want %v, %t", q.kinds, q.draining, kinds, is)
		}
	}
}

// A chunk of a move that has ended while it came is given up: nobody would do it later.
func TestAChunkThatComesTooLate(t *testing.T) {
	dir := actorsDir(t, "examples.wasm")
	still := Limits{Hibernate: Never}
	from, to := start(t, Config{ActorsDir: dir, Limits: still}), start(t, Config{ActorsDir: dir, Limits: still})
	if _, err := call(from, "counter/c", "add", `{"by":1}`); err != nil {
		t.Fatal(err)
	}
	part := cluster.Part{Kinds: []string{"counter"}}
	if err := from.silo.Surrender(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	c := &carrier{node: &Node{silo: to.silo, quorum: &quorum{resident: consensus.NewResident(consensus.ResidentConfig{Log: to.log})}}}
	const move = core.MoveID(7)
	c.TurnAway(move)
	bring := func(chunk []byte) error { return c.bring(move, part, chunk) }
	if _, err := from.silo.Export(context.Background(), part, chunkBytes, bring); abi.CodeOf(err) != abi.ErrNotReady {
		t.Errorf("%v", err)
	}
	if m, _ := to.silo.Staged(cluster.MoveID(move)); m != (cluster.Manifest{}) {
		t.Errorf("%+v stays", m)
	}
}
