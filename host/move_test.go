package host

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/abi/cbor"
	"github.com/wasilo/wasilo/cluster"
)

// nobody observes leases.
type nobody struct{}

func (nobody) Started(cluster.Lease)            {}
func (nobody) Releasing(cluster.Lease)          {}
func (nobody) Failed(cluster.Lease, error)      {}
func (nobody) Terminated(cluster.Lease, string) {}

// assigned is the epoch under which the second node of a move gets everything: later than any lease of the first.
var assigned = abi.Epoch{Index: 1 << 40}

// under calls an actor of a node under the lease of a move, past the node's cluster, which knows nothing of it.
func under(t *testing.T, n *Node, actor, method string) string {
	t.Helper()
	id, err := abi.ParseIdentity(actor)
	if err != nil {
		t.Fatal(err)
	}
	target, err := n.silo.Activate(cluster.ActivationRequest{Lease: cluster.Lease{Identity: id, Epoch: assigned}, Reason: "call", Observer: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := target.Deliver(t.Context(), &abi.Envelope{Target: id, Method: method, Payload: []byte{0xa0}, Deadline: time.Now().Add(hang)})
	if err != nil {
		t.Fatalf("%s: %v", actor, err)
	}
	js, err := cbor.ToJSON(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(js)
}

// A thousand actors of a real module that sleep and a hundred that are hot move to another node, and each goes on from its own count.
func TestActorsMove(t *testing.T) {
	const asleep, hot = 1000, 100
	dir := actorsDir(t, "examples.wasm")
	still := Limits{Hibernate: Never, Idle: time.Hour} // nothing falls asleep by itself
	from, to := start(t, Config{ActorsDir: dir, Limits: still}), start(t, Config{ActorsDir: dir, Limits: still})
	var wg sync.WaitGroup
	count := func(begin, end int) {
		for w := range 4 {
			wg.Go(func() {
				for i := begin + w; i < end; i += 4 {
					if _, err := call(from, fmt.Sprint("counter/c", i), "add", fmt.Sprintf(`{"by":%d}`, i+1)); err != nil {
						t.Errorf("counter %d: %v", i, err)
					}
				}
			})
		}
		wg.Wait()
	}
	count(0, asleep)
	if err := from.Passivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	count(asleep, asleep+hot)
	mustCall(t, from, "chat/room", "join", `{"member":"ann"}`) // of another kind: it stays
	if st := from.silo.Stats(); st.Sleepers != asleep || st.Activations != hot+1 {
		t.Fatalf("%+v", st)
	}

	part := cluster.Part{Kinds: []string{"counter"}}
	began := time.Now()
	if err := from.silo.Surrender(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	surrendered := time.Now()
	m, err := from.silo.Export(t.Context(), part, 64<<10, func(chunk []byte) error { return to.silo.Import(1, part, chunk) })
	if err != nil {
		t.Fatal(err)
	}
	if got, foreign := to.silo.Staged(1); got != m || foreign != nil || m.Actors != asleep+hot {
		t.Fatalf("%+v arrived of %+v, foreign %v", got, m, foreign)
	}
	if err := to.silo.Accept(1, assigned); err != nil {
		t.Fatal(err)
	}
	from.silo.Forget(cluster.Loss{Kind: "counter", Epoch: abi.Epoch{Index: 1 << 30}})
	t.Logf("%d actors of %d bytes each; %d surrendered in %v, all moved in %v", m.Actors, m.Bytes/m.Actors, hot, surrendered.Sub(began), time.Since(surrendered))

	for i := range asleep + hot {
		if got, want := under(t, to, fmt.Sprint("counter/c", i), "get"), fmt.Sprintf(`{"value":%d}`, i+1); got != want {
			t.Fatalf("counter %d answers %s, want %s", i, got, want)
		}
	}
	eventually(t, "nothing of them at the first node", func() bool {
		st := from.silo.Stats()
		return st.Sleepers == 0 && st.Activations == 1
	})
}
