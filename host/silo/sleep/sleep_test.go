package sleep

import (
	"errors"
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
