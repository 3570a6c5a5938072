package sleep

import (
	"errors"
	"os"
	"sync"
	"testing"
)

// TestConcurrent: every goroutine has its own sleepers and finds them as it left them, while others put and take in the same
// partitions, spill, list and drop another.
func TestConcurrent(t *testing.T) {
	for name, sys := range memories() {
		t.Run(name, func(t *testing.T) {
			s := spilling(t, Config{MaxBytes: 512 << 10}, sys)
			const workers, rounds, each = 4, 30, 100
			var wg, others sync.WaitGroup
			quit := make(chan struct{})
			background := func(f func()) {
				others.Go(func() {
					for {
						select {
						case <-quit:
							return
						default:
							f()
						}
					}
				})
			}
			background(func() { s.Spill(64 << 10); s.Stats() })
			background(func() { s.List("", "", 10); s.DropKind("nobody", nil) })
			background(func() {
				_, z := nth(t, 0, 5000)
				if err := s.Put(9, z); err != nil {
					t.Error(err)
				}
				s.Drop(9)
			})
			for w := range workers {
				wg.Go(func() {
					for r := range rounds {
						for i := range each {
							_, z := nth(t, w*each+i, 60+(i%7)*700+(i%50/49)*40_000)
							z.Uses = uint8(r)
							if err := s.Put(uint16(i%3), z); err != nil {
								t.Error(err)
								return
							}
						}
						for i := range each {
							_, want := nth(t, w*each+i, 60+(i%7)*700+(i%50/49)*40_000)
							want.Uses = uint8(r)
							if !s.Has(uint16(i%3), want.Identity) {
								t.Error("gone", want.Identity)
							}
							if (i+r)%3 == 0 {
								continue // is replaced in the next round
							}
							z, ok, err := s.Take(uint16(i%3), want.Identity, latest)
							if err != nil || !ok || !same(&z, want) {
								t.Errorf("%s: %v %v", want.Identity, ok, err)
								return
							}
						}
					}
				})
			}
			wg.Wait()
			close(quit)
			others.Wait()
			if err := s.check(); err != nil {
				t.Error(err)
			}
			if st := s.Stats(); st.Damaged != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestCloseMeanwhile: what runs while it is closed ends, and neither crashes nor reports damage.
func TestCloseMeanwhile(t *testing.T) {
	for range 20 {
		s := spilling(t, Config{MaxBytes: 200 << 10}, systemMemory())
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					_, z := nth(t, w*100+i%100, 200+i%3*20_000)
					if err := s.Put(uint16(i%3), z); errors.Is(err, ErrClosed) {
						return
					} else if err != nil {
						t.Error(err)
					}
					_, y := nth(t, w*100+(i+50)%100, 8)
					if _, _, err := s.Take(uint16((i+50)%3), y.Identity, latest); err != nil && !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
				}
			})
		}
		for s.Stats().Spilled == 0 { // it ends: they put more than fits
			_, _ = s.List("", "", 1)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

// TestLeaks: neither descriptors nor mappings outlive their store.
func TestLeaks(t *testing.T) {
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(fds)
	}
	before := 0
	for i := range 10 {
		s, err := New(Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			p, z := nth(t, i, 300_000)
			put(t, s, p, z)
		}
		_, z := nth(t, 1000, slabBytes)
		put(t, s, 0, z)
		s.Spill(10 << 20)
		if err := s.Close(); err != nil || s.pages.maps != 0 || s.bytes.Load() != 0 {
			t.Fatal(err, s.pages.maps, s.bytes.Load())
		}
		if now := count(); i == 0 {
			before = now
		} else if now > before { // fewer are others' that were closed meanwhile
			t.Fatalf("%d descriptors, %d before", now, before)
		}
	}
}
