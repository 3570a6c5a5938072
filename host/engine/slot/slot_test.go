package slot

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// modes are the ways in which a pool can keep memories. All pass the same suite.
var modes = map[string]Options{"default": {}, "portable": {Portable: true}}

func each(t *testing.T, f func(t *testing.T, opt Options)) {
	for name, opt := range modes {
		t.Run(name, func(t *testing.T) { f(t, opt) })
	}
}

// images are by their shape: data at some places, zero elsewhere.
var images = map[string][]byte{
	"none": nil,
	"zero": make([]byte, wasmPage),
	"tiny": picture(wasmPage, 0, 3*Page+17),
	"two":  picture(2*wasmPage, Page, 2*Page, 70<<10, 71<<10),
	"big":  picture(5*wasmPage, Page, 90<<10, 200<<10, 250<<10, 5*wasmPage-Page, 5*wasmPage),
}

// picture is an image of size bytes with data from each even one of the offsets to the next.
func picture(size int, data ...int) []byte {
	rnd := rand.NewChaCha8([32]byte{1})
	image := make([]byte, size)
	for i := 0; i < len(data); i += 2 {
		rnd.Read(image[data[i]:data[i+1]])
	}
	return image
}

func newPool(t testing.TB, image []byte, opt Options) *Pool {
	t.Helper()
	p, err := NewPool(image, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func get(t testing.TB, p *Pool, limit uint64) *Slot {
	t.Helper()
	s, err := p.Get(limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check holds a slot to a model of its content, and Dirty to what differs from the image.
func check(t testing.TB, s *Slot, image, model []byte) {
	t.Helper()
	b := s.Bytes()
	if !bytes.Equal(b, model) || cap(b) != len(b) {
		t.Fatalf("%d bytes of capacity %d, want %d; they differ first at %d", len(b), cap(b), len(model), differ(b, model))
	}
	var want, got []uint32
	base := append(bytes.Clone(image), make([]byte, len(model)-len(image))...)
	for off := 0; off < len(model); off += Page {
		if !bytes.Equal(base[off:off+Page], model[off:off+Page]) {
			want = append(want, uint32(off))
		}
	}
	err := s.Dirty(func(off uint32, page []byte) bool {
		got = append(got, off)
		if len(page) != Page || cap(page) != Page || &page[0] != &b[off] {
			t.Errorf("the page at %d is not that of the slot", off)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d dirty pages, want %d: %v, want %v", len(got), len(want), got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("dirty %v, want %v", got, want)
		}
	}
	if least := int64(len(want)) * Page; s.DirtyBytes() < least {
		t.Errorf("%d dirty bytes, of at least %d", s.DirtyBytes(), least)
	}
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestSlotIsTheImage(t *testing.T) {
	each(t, func(t *testing.T, opt Options) {
		for name, image := range images {
			t.Run(name, func(t *testing.T) {
				given := bytes.Clone(image)
				p := newPool(t, given, opt)
				clear(given) // it was copied
				if !bytes.Equal(p.Image(), image) {
					t.Fatal("Image is not the image")
				}
				s := get(t, p, maxMemory)
				check(t, s, image, image)
				if st := p.Stats(); st.Live != 1 || st.Grown != 0 {
					t.Errorf("%+v", st)
				}
				s.Release()
				if st := p.Stats(); st.Live != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	})
}

// TestNobodySeesAnother: whatever is done with slots in whatever order, Get gives the image.
func TestNobodySeesAnother(t *testing.T) {
	each(t, func(t *testing.T, opt Options) {
		for _, keep := range []int{0, -1, 3} {
			for name, image := range images {
				opt := opt
				opt.KeepSlots, opt.KeepDirty = keep, 2*keep
				t.Run(name, func(t *testing.T) {
					p := newPool(t, image, opt)
					storm(t, p, image, rand.New(rand.NewPCG(1, uint64(len(name)))), 200)
					p.Trim()
					storm(t, p, image, rand.New(rand.NewPCG(2, uint64(len(name)))), 60)
				})
			}
		}
	})
}

var noise = picture(1<<19, 0, 1<<19)

type pair struct {
	s     *Slot
	model []byte
}

// storm gets slots, writes, grows and gives back in random order, and looks at every byte of each.
func storm(t testing.TB, p *Pool, image []byte, rnd *rand.Rand, steps int) {
	const limit = 9 * wasmPage
	var live []pair
	end := func(i int) {
		check(t, live[i].s, image, live[i].model)
		if rnd.IntN(4) == 0 {
			live[i].s.Discard()
		} else {
			live[i].s.Release()
		}
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
	}
	for range steps {
		switch rnd.IntN(8) {
		case 0, 1:
			if len(live) < 12 {
				s := get(t, p, limit)
				check(t, s, image, image)
				live = append(live, pair{s, bytes.Clone(image)})
			}
		case 2, 3, 4:
			if len(live) > 0 {
				l := live[rnd.IntN(len(live))]
				scribble(l, rnd)
			}
		case 5:
			if len(live) > 0 && rnd.IntN(2) == 0 {
				i := rnd.IntN(len(live))
				size := len(live[i].model) + rnd.IntN(5)*wasmPage
				b := live[i].s.Grow(uint64(size))
				if size > limit {
					if b != nil || !live[i].s.Refused() {
						t.Fatal("grew over its limit")
					}
				} else if len(b) != size {
					t.Fatalf("grew to %d, want %d", len(b), size)
				} else {
					live[i].model = append(live[i].model, make([]byte, size-len(live[i].model))...)
				}
				check(t, live[i].s, image, live[i].model)
			}
		default:
			if len(live) > 0 {
				end(rnd.IntN(len(live)))
			}
		}
	}
	for len(live) > 0 {
		end(len(live) - 1)
	}
}

// scribble writes the same to slot and model: bytes here and there, runs, zeros, and now and then what is there already.
func scribble(l pair, rnd *rand.Rand) {
	if len(l.model) == 0 {
		return
	}
	b := l.s.Bytes()
	for range 1 + rnd.IntN(6) {
		off := rnd.IntN(len(b))
		n := min(1+rnd.IntN(1<<rnd.IntN(17)), len(b)-off)
		switch rnd.IntN(4) {
		case 0:
			clear(b[off : off+n])
		case 1:
			b[off] ^= 0 // written, and the same
			n = 1
		default:
			copy(b[off:off+n], noise[rnd.IntN(len(noise)-n):])
		}
		copy(l.model[off:off+n], b[off:off+n])
	}
}

func TestConcurrentUse(t *testing.T) {
	each(t, func(t *testing.T, opt Options) {
		for _, name := range []string{"none", "tiny", "two", "big"} {
			image := images[name]
			t.Run(name, func(t *testing.T) {
				p := newPool(t, image, opt)
				var g sync.WaitGroup
				for i := range 8 {
					g.Go(func() {
						storm(fatalless{t}, p, image, rand.New(rand.NewPCG(uint64(i), 3)), 60)
					})
				}
				for range 20 {
					p.Trim()
					p.Stats()
				}
				g.Wait()
				if st := p.Stats(); st.Live != 0 || st.Grown != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	})
}

// fatalless lets goroutines other than the test's own give up.
type fatalless struct{ testing.TB }

func (f fatalless) Fatal(args ...any)            { f.TB.Error(args...); panic("see above") }
func (f fatalless) Fatalf(s string, args ...any) { f.TB.Errorf(s, args...); panic("see above") }

func TestGrowthIsZeroAndBounded(t *testing.T) {
	each(t, func(t *testing.T, opt Options) {
		image := images["two"]
		p := newPool(t, image, opt)
		for range 3 {
			s := get(t, p, 5*wasmPage+1)
			s.Bytes()[7] = 1
			model := append(bytes.Clone(image), make([]byte, wasmPage)...)
			model[7] = 1
			if b := s.Grow(3 * wasmPage); len(b) != 3*wasmPage {
				t.Fatal(len(b))
			}
			check(t, s, image, model)
			if st := p.Stats(); st.Grown != 1 || st.PrivateBytes < wasmPage {
				t.Errorf("%+v", st)
			}
			s.Bytes()[3*wasmPage-1], model[3*wasmPage-1] = 9, 9
			for _, size := range []uint64{6 * wasmPage, 5*wasmPage + 1, maxMemory + wasmPage, 1 << 63} {
				s.ClearRefused()
				if s.Grow(size) != nil || !s.Refused() {
					t.Errorf("grew to %d", size)
				}
			}
			s.ClearRefused()
			if b := s.Grow(3 * wasmPage); len(b) != 3*wasmPage || s.Refused() {
				t.Error("cannot grow to what it is")
			}
			check(t, s, image, model)
			model = append(model, make([]byte, 2*wasmPage)...)
			if b := s.Grow(5 * wasmPage); len(b) != 5*wasmPage {
				t.Fatal(len(b))
			}
			copy(s.Bytes(), noise)
			copy(model, noise)
			check(t, s, image, model)
			s.Release()
			if st := p.Stats(); st.Grown != 0 || st.Live != 0 {
				t.Errorf("%+v", st)
			}
		}
	})
}

func TestDirtyStopsWhenTold(t *testing.T) {
	each(t, func(t *testing.T, opt Options) {
		for _, name := range []string{"tiny", "big"} {
			p := newPool(t, images[name], opt)
			s := get(t, p, maxMemory)
			s.Bytes()[5*Page], s.Bytes()[9*Page] = 1, 1
			calls := 0
			if err := s.Dirty(func(uint32, []byte) bool { calls++; return false }); err != nil || calls != 1 {
				t.Error(calls, err)
			}
			s.Release()
		}
	})
}

func TestMistakes(t *testing.T) {
	each(t, func(t *testing.T, opt Options) {
		if _, err := NewPool(make([]byte, 100), opt); !errors.Is(err, ErrImage) {
			t.Error(err)
		}
		p := newPool(t, images["two"], opt)
		if _, err := p.Get(wasmPage); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "131072") {
			t.Error(err)
		}
		s := get(t, p, maxMemory)
		if live := new(LiveError); !errors.As(p.Close(), &live) || live.Live != 1 {
			t.Error("closed with a live slot")
		}
		s.Release()
		s.Release()
		s.Discard()
		if err := s.Dirty(nil); !errors.Is(err, ErrReleased) || s.Bytes() != nil || s.Grow(1<<20) != nil || s.DirtyBytes() != 0 {
			t.Error("a slot that was given back can be used:", err)
		}
		if st := p.Stats(); st.Live != 0 {
			t.Errorf("%+v", st)
		}
		for range 2 {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := p.Get(maxMemory); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}
