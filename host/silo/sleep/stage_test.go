package sleep

import (
	"errors"
	"slices"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// some are sleepers of n bytes each, whose states differ.
func some(t testing.TB, from, count, n int) (zs []Sleeper) {
	for i := range count {
		_, z := nth(t, from+i, n)
		zs = append(zs, *z)
	}
	return zs
}

func partition(abi.Identity) uint16 { return 3 }

// What is staged is no sleeper until it is settled, is spilled and counted with the others, and comes out under its epoch.
func TestStage(t *testing.T) {
	for name, sys := range memories() {
		t.Run(name, func(t *testing.T) {
			for _, spill := range []bool{false, true} {
				s := spilling(t, Config{}, sys)
				g := s.Stage()
				zs := slices.Concat(some(t, 0, 300, 500), some(t, 300, 3, soloBytes))
				for part := range slices.Chunk(zs, 7) {
					if err := g.Add(part); err != nil {
						t.Fatal(err)
					}
				}
				if spill && s.Spill(0) == 0 {
					t.Fatal("nothing was spilled")
				}
				if st := s.Stats(); st.Staged != 303 || st.Sleepers != 0 || (st.Spilled == 303) != spill || s.Has(3, zs[0].Identity) {
					t.Errorf("%+v", st)
				}
				if err := g.Add(slices.Concat(some(t, 1000, 5, 10), zs[2:3])); !errors.Is(err, ErrTwice) || g.Len() != 303 {
					t.Errorf("%v, then %d are staged", err, g.Len())
				}
				at := abi.Epoch{Generation: 400, Index: 7}
				kept := zs[1]
				kept.Epoch = abi.Epoch{Generation: 401}
				put(t, s, 3, &kept)
				moved := g.Settle(at, partition, func(id abi.Identity, err error) { t.Errorf("%s: %v", id, err) })
				if st := s.Stats(); moved != 302 || st.Staged != 0 || st.Sleepers != 303 || len(s.stages) != 0 {
					t.Errorf("%d moved, %+v", moved, st)
				}
				for i := range zs {
					want := zs[i]
					want.Epoch = at
					if i == 1 {
						want = kept
					}
					take(t, s, 3, &want)
				}
				if s.file.used.Load() != 0 {
					t.Errorf("%d bytes of the file are left", s.file.used.Load())
				}
			}
		})
	}
}

// A stage may exceed the store's bound by what is settled, and only by that.
func TestStageIsBounded(t *testing.T) {
	s := closed(t, newStore(Config{MaxBytes: 200 << 10}, systemMemory()))
	g := s.Stage()
	var err error
	n := 0
	for ; err == nil; n += 10 {
		err = g.Add(some(t, n, 10, 1000))
	}
	if !errors.Is(err, ErrFull) || g.Len() != n-10 {
		t.Fatalf("%v after %d, %d are staged", err, n, g.Len())
	}
	moved := g.Settle(abi.Epoch{Index: 1}, partition, func(id abi.Identity, err error) { t.Errorf("%s: %v", id, err) })
	if moved != n-10 || s.Stats().Sleepers != moved {
		t.Errorf("%d of %d", moved, n-10)
	}
}

// What is dropped is gone, and what is left at the end goes with the store.
func TestStagesEnd(t *testing.T) {
	s := spilling(t, Config{}, systemMemory())
	a, b := s.Stage(), s.Stage()
	for i, g := range []*Stage{a, b} {
		if err := g.Add(some(t, 0, 50, 100)); err != nil { // the same in both
			t.Fatal(i, err)
		}
	}
	if n := a.Drop(); n != 50 || s.Stats().Staged != 50 {
		t.Errorf("%d were dropped, %+v", n, s.Stats())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(some(t, 50, 1, 100)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if n := b.Settle(abi.Epoch{}, partition, func(abi.Identity, error) {}); n != 0 {
		t.Errorf("%d were settled", n)
	}
	if err := s.Stage().Add(some(t, 50, 1, 100)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Damage where it is staged is told with the identity, and costs that one.
func TestDamageInAStage(t *testing.T) {
	s := closed(t, newStore(Config{}, systemMemory()))
	g := s.Stage()
	zs := some(t, 0, 20, 100)
	if err := g.Add(zs); err != nil {
		t.Fatal(err)
	}
	c := g.part.arena.active
	c.mem[c.fill-1] ^= 1 // of the last one's state
	var lost []abi.Identity
	moved := g.Settle(abi.Epoch{Generation: 50}, partition, func(id abi.Identity, err error) {
		var d *DamagedError
		if !errors.As(err, &d) {
			t.Error(err)
		}
		lost = append(lost, id)
	})
	if moved != 19-slices.Index(lost, zs[19].Identity) || len(lost) == 0 {
		t.Errorf("%d moved, lost %v", moved, lost)
	}
}

// A sleeper of a later epoch is neither replaced nor taken by one who has had it before.
func TestNewerStays(t *testing.T) {
	s := closed(t, newStore(Config{}, systemMemory()))
	_, z := nth(t, 5, 100) // of epoch 5.15
	put(t, s, 3, z)
	before := abi.Epoch{Generation: 5, Index: 14}
	older := *z
	older.Epoch = before
	if err := s.Put(3, &older); !errors.Is(err, ErrNewer) {
		t.Error(err)
	}
	if _, ok, err := s.Take(3, z.Identity, before); ok || !errors.Is(err, ErrNewer) {
		t.Error(ok, err)
	}
	got, ok, err := s.Get(3, z.Identity)
	if err != nil || !ok || !same(&got, z) {
		t.Errorf("%v %v", ok, err)
	}
	if all := s.Partition(3); len(all) != 1 || all[0].Identity != z.Identity || all[0].Epoch != z.Epoch {
		t.Errorf("%v", all)
	}
	if _, ok, err := s.Take(3, z.Identity, z.Epoch); !ok || err != nil {
		t.Error(ok, err)
	}
	if _, ok, err := s.Get(3, z.Identity); ok || err != nil {
		t.Error(ok, err)
	}
}
