package sleep

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func TestPutTake(t *testing.T) {
	for name, sys := range memories() {
		t.Run(name, func(t *testing.T) {
			s := closed(t, newStore(Config{}, sys))
			sizes := []int{8, 60, 1000, 4096, 32 << 10, 32<<10 + 1, 64 << 10, 1 << 20, 20 << 20}
			for i, n := range sizes {
				p, z := nth(t, i, n)
				put(t, s, p, z)
				z.State[0] ^= 1 // it was copied
				if !s.Has(p, z.Identity) || s.Has(p+1, z.Identity) {
					t.Error("Has")
				}
			}
			if st := s.Stats(); st.Sleepers != len(sizes) || st.LiveBytes > st.Bytes {
				t.Errorf("%+v", st)
			}
			for i, n := range sizes {
				p, z := nth(t, i, n)
				take(t, s, p, z)
				if _, ok, err := s.Take(p, z.Identity, latest); ok || err != nil || s.Has(p, z.Identity) {
					t.Error("taken twice", ok, err)
				}
			}
			if st := s.Stats(); st != (Stats{}) {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestReplace: the last state counts, and the garbage of the others is bounded.
func TestReplace(t *testing.T) {
	s := closed(t, newStore(Config{}, systemMemory()))
	for i := range 10_000 {
		_, z := nth(t, i, 500)
		z.Identity = ident(t, "counter", []string{"a", "b", "c"}[i%3])
		put(t, s, 7, z)
	}
	st := s.Stats()
	if st.Sleepers != 3 || st.Bytes > 64<<10 || st.Compactions == 0 {
		t.Errorf("%+v", st)
	}
	for i := 9_997; i < 10_000; i++ {
		_, z := nth(t, i, 500)
		z.Identity = ident(t, "counter", []string{"a", "b", "c"}[i%3])
		take(t, s, 7, z)
	}
}

func TestRefusals(t *testing.T) {
	s := closed(t, newStore(Config{MaxBytes: 100_000}, systemMemory()))
	if err := s.Put(0, &Sleeper{}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := s.Put(0, &Sleeper{Identity: ident(t, "a", "b"), State: make([]byte, MaxState+1)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		p, z := nth(t, n, 60)
		err = s.Put(p%8, z)
	}
	var full *FullError
	if !errors.Is(err, ErrFull) || !errors.As(err, &full) || full.Max != 100_000 || full.Bytes == 0 {
		t.Error(err)
	}
	for i := range n - 1 {
		p, z := nth(t, i, 60)
		take(t, s, p%8, z)
	}
	if n < 500 {
		t.Errorf("full with %d", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	_, z := nth(t, 0, 60)
	if err := s.Put(0, z); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, ok, err := s.Take(0, z.Identity, latest); ok || !errors.Is(err, ErrClosed) {
		t.Error(ok, err)
	}
	if s.Drop(0) != 0 || s.Has(0, z.Identity) || s.Spill(0) != 0 || s.Close() != nil {
		t.Error("after Close")
	}
}

// TestPutBack: what was taken goes back into a full store, whoever has taken its place meanwhile, and however often: memory stays within what
// compaction leaves of the records that there are.
func TestPutBack(t *testing.T) {
	const most, parts = 256 << 10, 2
	for _, disk := range []string{"none", "good", "full"} {
		t.Run(disk, func(t *testing.T) {
			s, f := withFaults(t, Config{MaxBytes: most})
			f.full.Store(disk == "full")
			if disk == "none" {
				s.file.disk.Close()
				s.file = nil
			}
			var all []*Sleeper
			records := int64(0)
			for i := 0; ; i++ {
				_, z := nth(t, i, 20+i%50*40)
				if err := s.Put(uint16(i%parts), z); errors.Is(err, ErrFull) || i == 500 {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				all = append(all, z)
				records += int64(headLen + len(z.Identity.Key()) + len(z.State))
			}
			bound := 2*records + parts*chunkBytes + 8*8*int64(len(all))
			if disk == "good" {
				bound = most + parts*chunkBytes
			}
			put := func(i int) {
				t.Helper()
				if err := s.PutBack(uint16(i%parts), all[i]); err != nil {
					t.Fatal(err)
				}
				if b := s.Bytes(); b > bound {
					t.Fatalf("%d bytes of at most %d, for %d of records", b, bound, records)
				}
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			for range 5 {
				for range len(all) {
					i, j := rnd.IntN(len(all)), rnd.IntN(len(all))
					take(t, s, uint16(i%parts), all[i])
					if j != i {
						take(t, s, uint16(j%parts), all[j])
						put(j)
					}
					put(i)
				}
				if err := s.check(); err != nil {
					t.Fatal(err)
				}
			}
			_, z := nth(t, len(all), 3000)
			if disk != "good" && s.Bytes() <= most {
				t.Errorf("%d bytes: it was never full", s.Bytes())
			}
			if err := s.Put(0, z); (err == nil) != (disk == "good") {
				t.Errorf("one more: %v", err)
			} else if err == nil {
				take(t, s, 0, z)
			}
			newer := *all[0]
			newer.Epoch.Generation++
			put(0)
			if err := s.PutBack(0, &newer); err != nil {
				t.Fatal(err)
			}
			if err := s.PutBack(0, all[0]); !errors.Is(err, ErrNewer) {
				t.Error(err)
			}
			all[0] = &newer
			for i, z := range all {
				take(t, s, uint16(i%parts), z)
			}
			if st := s.Stats(); st.Sleepers != 0 || st.Bytes != 0 || st.SpilledBytes != 0 {
				t.Errorf("%+v", st)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := s.PutBack(0, z); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
}

// TestNoMemory: a system without memory is an error, and nothing that is there is lost.
func TestNoMemory(t *testing.T) {
	none := errors.New("no memory")
	slabs := 1
	s := closed(t, newStore(Config{}, &sysMem{
		mmap: func(n int) ([]byte, error) {
			if slabs--; slabs < 0 {
				return nil, none
			}
			return make([]byte, n), nil
		},
		munmap:  func([]byte) error { return nil },
		release: func([]byte) error { return nil },
	}))
	var err error
	n := 0
	for ; err == nil; n++ {
		p, z := nth(t, n, 50<<10)
		err = s.Put(p%8, z)
	}
	if !errors.Is(err, ErrFull) || !errors.Is(err, none) {
		t.Error(err)
	}
	for i := range n - 1 {
		p, z := nth(t, i, 50<<10)
		take(t, s, p%8, z)
	}
	if n < 300 {
		t.Error(n)
	}
}
