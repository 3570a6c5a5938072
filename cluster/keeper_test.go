package cluster

import (
	"context"
	"errors"
	"slices"
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

// movingSilo is a silo that can hand actors over; it notes what it is asked.
type movingSilo struct {
	fakeSilo
	asked []string
}

func (s *movingSilo) Surrender(context.Context, Part) error {
	s.asked = append(s.asked, "surrender")
	return nil
}

func (s *movingSilo) Export(_ context.Context, _ Part, _ int, emit func([]byte) error) (Manifest, error) {
	s.asked = append(s.asked, "export")
	return Manifest{Actors: 1}, emit([]byte("chunk"))
}

func (s *movingSilo) Import(_ MoveID, _ Part, chunk []byte) error {
	s.asked = append(s.asked, string(chunk))
	return nil
}

func (s *movingSilo) Staged(MoveID) (Manifest, map[string]int) {
	return Manifest{Actors: 1}, map[string]int{"k": 1}
}

func (s *movingSilo) Accept(MoveID, abi.Epoch) error { s.asked = append(s.asked, "accept"); return nil }
func (s *movingSilo) Reject(MoveID)                  { s.asked = append(s.asked, "reject") }

// The local bridge hands moves through to a silo that knows them, and refuses them for one that does not.
func TestTheLocalBridgeIsAMover(t *testing.T) {
	silo := &movingSilo{}
	b := must(LocalBridge(nil, silo))
	m := b.(Mover)
	var got []byte
	manifest, err := m.Export(t.Context(), Part{}, 1, func(chunk []byte) error { got = chunk; return nil })
	err = errors.Join(err, m.Surrender(t.Context(), Part{}), m.Import(1, Part{}, got), m.Accept(1, abi.Epoch{}))
	m.Reject(1)
	staged, foreign := m.Staged(1)
	if want := []string{"export", "surrender", "chunk", "accept", "reject"}; err != nil || !slices.Equal(silo.asked, want) ||
		staged != manifest || foreign["k"] != 1 {
		t.Errorf("%v %q %v %v", err, silo.asked, staged, foreign)
	}
	m = must(LocalBridge(nil, &fakeSilo{})).(Mover)
	_, err = m.Export(t.Context(), Part{}, 1, nil)
	for _, err := range []error{err, m.Surrender(t.Context(), Part{}), m.Import(1, Part{}, nil), m.Accept(1, abi.Epoch{})} {
		if abi.CodeOf(err) != abi.ErrUnsupported {
			t.Error(err)
		}
	}
	m.Reject(1)
	if staged, _ := m.Staged(1); staged != (Manifest{}) {
		t.Error(staged)
	}
}

func TestPartHas(t *testing.T) {
	a := id("counter/a")
	here, elsewhere := new(PartitionSet), new(PartitionSet)
	here[PartitionOf(a)] = true
	elsewhere[(PartitionOf(a)+1)%Partitions] = true
	for part, want := range map[*Part]bool{
		{}:                           true,
		{Kinds: []string{"counter"}}: true,
		{Kinds: []string{"bank"}}:    false,
		{Kinds: []string{}}:          false,
		{Partitions: here}:           true,
		{Partitions: elsewhere}:      false,
		{Kinds: []string{"bank", "counter"}, Partitions: here}: true,
	} {
		if part.Has(a) != want {
			t.Errorf("%v: %v", part, !want)
		}
	}
}
