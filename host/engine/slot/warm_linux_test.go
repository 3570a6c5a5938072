//go:build !portable

package slot

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asked is a warmer that notes what it is asked for. Nil from answer lets the kernel do it.
type asked struct {
	write, read []run
	calls       int
}

func (a *asked) warmer(answer func() error) *warmer {
	return &warmer{advise: func(mem []byte, runs []run, advice int) error {
		a.calls++
		if advice == unix.MADV_POPULATE_WRITE {
			a.write = slices.Clone(runs)
		} else {
			a.read = slices.Clone(runs)
		}
		if err := answer(); err != nil {
			return err
		}
		return new(adviser).advise(mem, runs, advice)
	}}
}

func kernel() error { return nil }

// needWarm skips where the kernel makes no pages ready, or does not tell which were touched.
func needWarm(t testing.TB) {
	t.Helper()
	p := newPool(t, tiny, Options{})
	if p.maps == nil || !p.maps.watches() {
		t.Skip("written pages are not told here")
	}
	s := get(t, p, maxMemory)
	defer s.Discard()
	if err := unix.Madvise(s.Bytes(), unix.MADV_POPULATE_READ); err != nil {
		t.Skip("MADV_POPULATE_READ: ", err)
	}
}

// use gets a slot, writes pages, reads others, has it looked at, and discards it.
func use(t testing.TB, p *Pool, write, read []int) {
	t.Helper()
	s := get(t, p, maxMemory)
	first(s.Bytes(), write, read)
	s.DirtyBytes()
	if s.Watched() {
		t.Fatal("it was looked at, and waits for it")
	}
	s.Discard()
}

var sink byte

func first(mem []byte, write, read []int) {
	for _, i := range read {
		sink += mem[i*Page]
	}
	for _, i := range write {
		mem[i*Page+8] = 0xA5 // without reading it before, which would map what lies around
	}
}

// own lists the pages that are private to a slot.
func own(t testing.TB, p *Pool, s *Slot) (pages []int) {
	t.Helper()
	err := p.maps.scanner.scan(p.maps.bytes(s.place), func(off, n int) bool {
		for i := off / Page; i < (off+n)/Page; i++ {
			pages = append(pages, i)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// TestHotPagesAreReady: what most users have written is private in a blank slot, and the image; what few have written is not. Holes are
// never read.
func TestHotPagesAreReady(t *testing.T) {
	needWarm(t)
	image := goLike
	hot, rare, hole := []int{3, 4, 700, 1023}, 90, 400
	read := []int{100, 101, 300, hole, 520}
	for _, h := range []how{byIoctl, byPagemap} {
		if h < thisMachine().how {
			continue
		}
		t.Run(fmt.Sprint(h), func(t *testing.T) {
			a := &asked{}
			p := newPool(t, image, Options{ReplicaBytes: 1, machine: other(func(m *machine) { m.how, m.warmer = h, a.warmer(kernel) })})
			if !p.zero.has(hole) {
				t.Fatal("the image has no hole there")
			}
			for i := range looks {
				write, reads := slices.Clone(hot), read
				if i < looks-agree {
					write, reads = write[1:], read[1:] // one user need not be as the others
				}
				if i < agree-1 {
					write = append(write, rare)
				}
				use(t, p, write, reads)
			}
			if a.calls != 0 {
				t.Fatalf("pages were made ready of which nothing is known: %+v", a)
			}
			s := get(t, p, maxMemory)
			defer s.Discard()
			if got := own(t, p, s); !slices.Equal(got, hot) || s.DirtyBytes() != int64(len(hot)*Page) {
				t.Errorf("pages %v are ready, %d bytes; most users have written %v", got, s.DirtyBytes(), hot)
			}
			mapped := newBitmap(len(image) / Page)
			if err := p.maps.scanner.entries(s.Bytes(), shared, func(off, n int) bool {
				for i := off / Page; i < (off+n)/Page; i++ {
					mapped.set(i)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
			for _, i := range []int{100, 101, 300, 520} {
				if !mapped.has(i) {
					t.Errorf("page %d, which most users have read, is not mapped", i)
				}
			}
			for _, r := range a.read {
				for i := r.first; i < r.end; i++ {
					if p.zero.has(i) {
						t.Errorf("page %d is a hole of the image, and was read", i)
					}
				}
			}
			check(t, s, image, image)
			first(s.Bytes(), hot, nil)
			model := bytes.Clone(image)
			first(model, hot, nil)
			check(t, s, image, model)
		})
	}
}

// TestHabitsChange: what users do no more is not made ready any more.
func TestHabitsChange(t *testing.T) {
	needWarm(t)
	p := newPool(t, tiny, Options{ReplicaBytes: 1, machine: other(func(*machine) {})})
	for range looks {
		use(t, p, []int{2, 9}, nil)
	}
	for range lookAgain * (agree + 1) {
		use(t, p, []int{5, 7}, nil)
	}
	s := get(t, p, maxMemory)
	defer s.Discard()
	if got := own(t, p, s); !slices.Equal(got, []int{5, 7}) {
		t.Errorf("pages %v are ready, where users write 5 and 7", got)
	}
}

// TestUnlikeUsers: where each does something else, or so little or so much that faults do not matter, nothing is made ready.
func TestUnlikeUsers(t *testing.T) {
	needWarm(t)
	p := newPool(t, goLike, Options{ReplicaBytes: 1, machine: other(func(*machine) {})})
	for i := range 2 * looks {
		use(t, p, []int{10 * i}, nil)
	}
	s := get(t, p, maxMemory)
	if got := own(t, p, s); len(got) > 0 {
		t.Errorf("pages %v are ready, each of which one user has written", got)
	}
	s.Discard()
	many := make([]int, mostReady+1)
	for i := range many {
		many[i] = i
	}
	for _, pages := range [][]int{nil, {5}, many} {
		p := newPool(t, goLike, Options{ReplicaBytes: 1, machine: other(func(*machine) {})})
		for range looks {
			use(t, p, pages, nil)
		}
		s := get(t, p, maxMemory)
		if got := own(t, p, s); len(got) > 0 {
			t.Errorf("%d pages are ready, where %d are written", len(got), len(pages))
		}
		s.Discard()
	}
}

// TestWhoIsLookedAt: a user who was not looked at makes room for another, and one whose slot grew is seen as it was before.
func TestWhoIsLookedAt(t *testing.T) {
	needWarm(t)
	p := newPool(t, goLike, Options{ReplicaBytes: 1, machine: other(func(*machine) {})})
	var all []*Slot
	for i := range looks + 2 {
		s := get(t, p, maxMemory)
		if s.Watched() != (i < looks) {
			t.Errorf("slot %d: watched is %v", i, s.Watched())
		}
		all = append(all, s)
	}
	for _, s := range all {
		s.Discard()
	}
	h := &p.maps.habits
	if h.watched != 0 || h.seen != 0 {
		t.Fatalf("%d wait, %d looks; none was", h.watched, h.seen)
	}
	for i := range looks {
		s := get(t, p, maxMemory)
		first(s.Bytes(), []int{7, 8}, nil)
		switch i % 3 {
		case 0:
			s.Grow(uint64(len(goLike) + wasmPage))
			s.Discard()
		case 1:
			s.Reset()
			s.Discard()
		case 2:
			s.Release()
		}
		p.Trim() // or the next one gets what is kept
		if h.watched != 0 || h.seen != i+1 {
			t.Fatalf("%d wait, %d looks of %d", h.watched, h.seen, i+1)
		}
	}
	s := get(t, p, maxMemory)
	defer s.Discard()
	if got := own(t, p, s); !slices.Equal(got, []int{7, 8}) {
		t.Errorf("pages %v are ready", got)
	}
}

// TestAdviceIsRefused: an old kernel, or one that has no memory for it, is asked once; slots are the image all the same.
func TestAdviceIsRefused(t *testing.T) {
	needWarm(t)
	for _, errno := range []error{unix.EINVAL, unix.ENOSYS, unix.EFAULT, unix.ENOMEM} {
		for _, from := range []int{1, 2, 5} {
			a := &asked{}
			w := a.warmer(func() error {
				if a.calls >= from {
					return errno
				}
				return nil
			})
			p := newPool(t, goLike, Options{ReplicaBytes: 1, machine: other(func(m *machine) { m.warmer = w })})
			for range looks {
				use(t, p, []int{3, 700}, []int{100})
			}
			for range 10 {
				s := get(t, p, maxMemory)
				if s.Watched() {
					t.Error("a slot is watched that nobody will learn from")
				}
				check(t, s, goLike, goLike)
				s.Discard()
			}
			if a.calls != from || !w.refused.Load() {
				t.Errorf("%v: asked %d times, refused from %d on", errno, a.calls, from)
			}
		}
	}
}

// TestAdviserAlone: advice in one call and one by one does the same.
func TestAdviserAlone(t *testing.T) {
	needWarm(t)
	var runs []run
	for i := range 150 {
		runs = append(runs, run{6 * i, 6*i + 1 + i%3})
	}
	for _, single := range []bool{false, true} {
		p := newPool(t, goLike, Options{ReplicaBytes: 1, machine: other(func(*machine) {})})
		s := get(t, p, maxMemory)
		a := &adviser{}
		a.single.Store(single)
		if err := a.advise(s.Bytes(), runs, unix.MADV_POPULATE_WRITE); err != nil {
			t.Fatal(err)
		}
		b := newBitmap(len(goLike) / Page)
		for _, i := range own(t, p, s) {
			b.set(i)
		}
		if got := b.runs(); !slices.Equal(got, runs) {
			t.Errorf("one by one %v: ready are %v", single, got)
		}
		check(t, s, goLike, goLike)
		s.Discard()
	}
}

// TestIdleSlotsHaveNoMore: a slot that is given back has the pages that its users wrote, and none if it is blank.
func TestIdleSlotsHaveNoMore(t *testing.T) {
	needWarm(t)
	const n = 20
	p := newPool(t, goLike, Options{ReplicaBytes: 4 * int64(len(goLike)), KeepSlots: n / 2, machine: other(func(*machine) {})})
	hot := []int{3, 4, 700}
	for range looks {
		use(t, p, hot, []int{100})
	}
	var slots []*Slot
	for range n {
		s := get(t, p, maxMemory)
		first(s.Bytes(), hot, nil)
		slots = append(slots, s)
	}
	for _, s := range slots {
		s.Release()
	}
	if st := p.Stats(); st.Idle != n/2 || st.PrivateBytes != int64(n/2*len(hot)*Page) {
		t.Errorf("%+v", st)
	}
	kept, blank := 0, 0
	regions := map[*region]bool{}
	for _, k := range p.maps.kept {
		regions[k.region] = true
		kept += len(own(t, p, &Slot{place: k.place}))
	}
	for _, r := range p.maps.open {
		regions[r] = true
	}
	for r := range regions {
		for i := range r.n {
			if r.blank&(1<<i) != 0 {
				blank += len(own(t, p, &Slot{place: place{region: r, index: i}}))
			}
		}
	}
	if kept != n/2*len(hot) || blank != 0 {
		t.Errorf("%d pages of idle slots, %d of blank ones", kept, blank)
	}
}

// TestCommon holds the counting of bits to counting.
func TestCommon(t *testing.T) {
	var of [looks]bitmap
	for i := range of {
		of[i] = bitmap{0, ^uint64(0)}
	}
	for i := range 1 << looks {
		for j := range of {
			of[j][0] = 0
			if i&(1<<j) != 0 {
				of[j][0] = 1 << (i % 64)
			}
		}
		n := 0
		for j := range looks {
			n += i >> j & 1
		}
		if got := common(&of); got.has(i%64) != (n >= agree) || got[1] != ^uint64(0) {
			t.Errorf("%d of %d: %v", n, looks, got)
		}
	}
}

// TestFirsts: a page for each 64 KiB of addresses, wherever a slot begins.
func TestFirsts(t *testing.T) {
	mem := make([]byte, 3*faultAround)
	at := int(-uintptr(unsafe.Pointer(unsafe.SliceData(mem))) % faultAround)
	runs := []run{{3, 5}, {7, 20}, {30, 31}}
	if got := firsts(mem[at:], runs); !slices.Equal(got, []run{{3, 4}, {16, 17}}) {
		t.Errorf("%v", got)
	}
	if got := firsts(mem[at+Page:], runs); !slices.Equal(got, []run{{3, 4}, {15, 16}}) {
		t.Errorf("%v", got)
	}
	if got := firsts(mem[at+2*Page:], runs); !slices.Equal(got, []run{{3, 4}, {14, 15}, {30, 31}}) {
		t.Errorf("%v", got)
	}
}

// BenchmarkFirst is what the first turn in a blank slot costs, with its end: like a stock Go guest it writes 11 pages and reads 12 others, far
// from each other.
func BenchmarkFirst(b *testing.B) {
	needWarm(b)
	var write, read []int
	for i := range 11 {
		write = append(write, 5+17*i)
	}
	for i := range 12 {
		read = append(read, 12+25*i)
	}
	for _, way := range []string{"faults", "ready"} {
		b.Run(way, func(b *testing.B) {
			w := &warmer{advise: new(adviser).advise}
			w.refused.Store(way == "faults")
			p := newPool(b, goLike, Options{machine: other(func(m *machine) { m.warmer = w })})
			for range looks {
				use(b, p, write, read)
			}
			for b.Loop() {
				s := get(b, p, maxMemory)
				first(s.Bytes(), write, read)
				s.Discard()
			}
		})
	}
}
