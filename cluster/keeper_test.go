package cluster

import (
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// What an actor left makes it one that exists, and not one that is active.
func TestMustExistWakesWhatIsKept(t *testing.T) {
	n := start(t)
	n.silo.kept = map[Identity]bool{id("counter/a"): true}
	e := env("counter/a")
	e.Flags = abi.OnlyIfActive
	if _, err := n.API().Send(t.Context(), e); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("only if active: %v", err)
	}
	e = env("counter/a")
	e.Flags = abi.OnlyIfActive | abi.MustExist
	if _, err := n.API().Send(t.Context(), e); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("both: %v", err)
	}
	e = env("counter/b")
	e.Flags = abi.MustExist
	if _, err := n.API().Send(t.Context(), e); abi.CodeOf(err) != abi.ErrNotActive {
		t.Errorf("another: %v", err)
	}
	if n.silo.activations() != 0 {
		t.Error("it was activated")
	}
	e = env("counter/a")
	e.Flags = abi.MustExist
	if _, err := n.API().Send(t.Context(), e); err != nil {
		t.Errorf("must exist: %v", err)
	}
	if err := n.API().Post(e, nil); err != nil {
		t.Errorf("post: %v", err)
	}
}

// The silo hears what the node has lost, by kind, or that it has lost all.
func TestLossesAreTold(t *testing.T) {
	n := start(t)
	n.ok("counter/a")
	n.ok("counter/b")
	other := Node{ID: "n2", Authority: "127.0.0.1:7702"}
	if err := n.Runtime().SetPeerKinds("n2", []Kind{{Name: "counter"}}); err != nil {
		t.Fatal(err)
	}
	n.Runtime().HandleTopologyChanged(must(NewTopology(self, other)))
	if err := n.Runtime().SetPeerKinds("n2", []Kind{{Name: "counter"}}); err != nil {
		t.Fatal(err)
	}
	n.Runtime().HandleLapse()
	lost := n.silo.losses()
	if len(lost) != 2 {
		t.Fatalf("%v", lost)
	}
	half, all := lost[0], lost[1]
	if half.Kind != "counter" || half.Partitions == nil || half.Epoch.Index != 2 {
		t.Errorf("%s, %v", half.Kind, half.Epoch)
	}
	view := n.Runtime().View()
	for p, gone := range half.Partitions {
		if owner, _ := view.Owner("counter", core.Partition(p)); (owner.ID != self.ID) != gone {
			t.Fatalf("partition %d belongs to %s, lost %v", p, owner.ID, gone)
		}
	}
	if all.Kind != "" || all.Partitions != nil || all.Epoch.Index != 2 {
		t.Errorf("%q, %v", all.Kind, all.Epoch)
	}
}
