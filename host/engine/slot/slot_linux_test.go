//go:build !portable

package slot

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// other is a machine that differs from this one, which must be able to map.
func other(change func(m *machine)) *machine {
	m := *thisMachine()
	m.budget = &budget{max: 1000}
	change(&m)
	return &m
}

func init() {
	modes["one replica"] = Options{ReplicaBytes: 1}
	modes["pagemap"] = Options{machine: other(func(m *machine) { m.how = byPagemap })}
	modes["compare"] = Options{machine: other(func(m *machine) { m.how = byCompare })}
	modes["remap"] = Options{machine: other(func(m *machine) { m.zaps = false })}
	modes["strict"] = Options{machine: other(func(m *machine) { m.strict = true })}
	modes["few mappings"] = Options{ReplicaBytes: 1, machine: other(func(m *machine) { m.budget.max = 7 })}
}

func TestThisMachine(t *testing.T) {
	m := thisMachine()
	t.Logf("%d mappings at most, written pages are found by %d (0: ioctl, 1: pagemap, 2: compare), zaps %v, strict %v", m.budget.max, m.how, m.zaps, m.strict)
	if m.budget.max < 1000 || !m.zaps {
		t.Error("is this Linux?")
	}
}

// entries is how many mappings the process has whose line in /proc/self/maps contains part.
func entries(t testing.TB, part string) (n int) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func TestManySlotsTakeFewMappings(t *testing.T) {
	const n = 6000
	before := entries(t, "wasilo-image")
	p := newPool(t, tiny, Options{})
	slots := make([]*Slot, n)
	for i := range slots {
		slots[i] = get(t, p, maxMemory)
		slots[i].Bytes()[5*Page] = byte(i + 1)
		slots[i].Bytes()[5*Page+1] = byte((i + 1) >> 8)
	}
	st, now := p.Stats(), entries(t, "wasilo-image")-before
	if most := n/maxReplicas + 10; st.Live != n || st.Mappings > most || now > st.Mappings {
		t.Errorf("%+v, %d mappings, at most %d", st, now, most)
	}
	if st.ReplicaBytes != maxReplicas*wasmPage {
		t.Errorf("%+v", st)
	}
	model := bytes.Clone(tiny)
	for i, s := range slots {
		model[5*Page], model[5*Page+1] = byte(i+1), byte((i+1)>>8)
		if !bytes.Equal(s.Bytes(), model) {
			t.Fatalf("slot %d has another's bytes", i)
		}
	}
	rand.Shuffle(n, func(i, j int) { slots[i], slots[j] = slots[j], slots[i] })
	for i, s := range slots {
		if i%3 == 0 {
			s.Discard()
		} else {
			s.Release()
		}
	}
	if st := p.Stats(); st.Idle != DefaultKeepSlots || st.PrivateBytes != DefaultKeepSlots*Page || st.Mappings > DefaultKeepSlots+2 {
		t.Errorf("%+v", st)
	}
	p.Trim()
	if st, now := p.Stats(), entries(t, "wasilo-image")-before; st.Mappings != 1 || now != 1 || st.Idle != 0 || st.PrivateBytes != 0 {
		t.Errorf("%+v, %d mappings", st, now)
	}
}

// TestReplicasStayWithinTheirBytes: reading and writing all of all slots fills holes of the file, but no more than that.
func TestReplicasStayWithinTheirBytes(t *testing.T) {
	image := images["big"]
	p := newPool(t, image, Options{ReplicaBytes: 5 * int64(len(image))})
	used := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(p.maps.fd, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	data := int64(len(image))
	for i := range len(image) / Page {
		if p.zero.has(i) {
			data -= Page
		}
	}
	if used() != data {
		t.Errorf("%d bytes for one replica, want %d: holes are to cost nothing", used(), data)
	}
	var slots []*Slot
	for range 40 {
		s := get(t, p, maxMemory)
		slots = append(slots, s)
		for i := 0; i < len(s.Bytes()); i += Page {
			s.Bytes()[i]++
		}
	}
	if got := used(); got > 5*int64(len(image)) || p.Stats().ReplicaBytes != 5*int64(len(image)) {
		t.Errorf("%d bytes, %+v", got, p.Stats())
	}
	for _, s := range slots {
		s.Release()
	}
}

// TestFileIsSealed: nothing can change the image, not even this process.
func TestFileIsSealed(t *testing.T) {
	p := newPool(t, tiny, Options{ReplicaBytes: 2 * wasmPage})
	for range 2 {
		seals, err := unix.FcntlInt(uintptr(p.maps.fd), unix.F_GET_SEALS, 0)
		if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW; err != nil || seals&want != want {
			t.Errorf("seals %x, %v", seals, err)
		}
		if sealed := seals&unix.F_SEAL_WRITE != 0; sealed != (p.maps.written == 2) {
			t.Errorf("%d replicas of 2 written, sealed: %v", p.maps.written, sealed)
		}
		defer get(t, p, maxMemory).Release()
		defer get(t, p, maxMemory).Release()
	}
	if _, err := unix.Pwrite(p.maps.fd, []byte{1}, 0); err != unix.EPERM {
		t.Error("the image was written to:", err)
	}
}

// TestScanFails: then a slot can go on and grow, is not compared, and none of its pages are used again.
func TestScanFails(t *testing.T) {
	for _, h := range []how{byIoctl, byPagemap} {
		image := images["big"]
		p := newPool(t, image, Options{machine: other(func(m *machine) { m.how = h })})
		works := p.maps.scanner.fd
		fail := func() { p.maps.scanner.fd = p.maps.fd } // a file that knows nothing of pages
		if h == byPagemap {
			fail = func() { p.maps.scanner.fd = 1 << 20 } // one that is not there
		}
		s := get(t, p, maxMemory)
		model := bytes.Clone(image)
		s.Bytes()[8*Page], model[8*Page] = 77, 77
		fail()
		if err := s.Dirty(func(uint32, []byte) bool { return true }); !errors.Is(err, ErrScan) {
			t.Error(err)
		}
		if n := s.DirtyBytes(); n != int64(len(image)) {
			t.Error(n)
		}
		model = append(model, make([]byte, wasmPage)...)
		if s.Grow(uint64(len(model))); !bytes.Equal(s.Bytes(), model) {
			t.Error("growing lost what was written")
		}
		s.Release()
		s = get(t, p, maxMemory)
		s.Bytes()[8*Page] = 78
		s.Release()
		if st := p.Stats(); st.Idle != 0 {
			t.Errorf("%+v", st)
		}
		p.maps.scanner.fd = works
		s = get(t, p, maxMemory)
		if n := s.DirtyBytes(); n != 0 {
			t.Errorf("%d bytes of another's pages", n)
		}
		check(t, s, image, image)
		s.Release()
	}
}

// TestHugePages: what is grown may have them, the image may not: a page of it that is written to is copied.
func TestHugePages(t *testing.T) {
	p := newPool(t, goLike, Options{})
	if !p.Mapped() {
		t.Skip("nothing can be mapped here")
	}
	s := get(t, p, 64<<20)
	defer s.Discard()
	if s.Grow(uint64(len(goLike))+16<<20) == nil {
		t.Fatal("no memory")
	}
	for i := len(goLike); i < len(s.Bytes()); i += Page {
		s.Bytes()[i] = 1
	}
	flags := map[string]string{} // by where the mapping starts
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	start := ""
	for line := range strings.Lines(string(b)) {
		if at, _, ok := strings.Cut(line, "-"); ok && !strings.Contains(at, ":") {
			start = at
		}
		if f, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			flags[start] = f
		}
	}
	at := func(i int) string { return fmt.Sprintf("%x", uintptr(unsafe.Pointer(&s.Bytes()[i]))) }
	if image := flags[at(0)]; strings.Contains(image, " hg ") || !strings.Contains(image, " nh ") {
		if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
			t.Skip("this kernel has no huge pages")
		}
		t.Errorf("the image's mapping has the flags%s", image)
	}
	if grown := flags[at(len(goLike))]; !strings.Contains(grown, " hg ") {
		t.Errorf("the mapping of what was grown has the flags%s", grown)
	}
}

// TestManyDirtyPagesAreNotKept, and few are.
func TestManyDirtyPagesAreNotKept(t *testing.T) {
	for _, name := range []string{"tiny", "big"} {
		p := newPool(t, images[name], Options{KeepDirty: 3})
		for _, n := range []int{3, 4} {
			s := get(t, p, maxMemory)
			for i := range n {
				s.Bytes()[(2+i)*Page]++
			}
			s.Release()
			st := p.Stats()
			if kept := n == 3; kept != (st.Idle == 1) || kept != (st.PrivateBytes == 3*Page) {
				t.Errorf("%s, %d pages: %+v", name, n, st)
			}
			if s = get(t, p, maxMemory); s.DirtyBytes() != st.PrivateBytes {
				t.Errorf("%s, %d pages: %d private bytes, %+v", name, n, s.DirtyBytes(), st)
			}
			check(t, s, images[name], images[name])
			s.Discard()
			p.Trim()
		}
	}
}

// TestPagesThatWereSwappedOut: they are written pages as well. Without swap, the kernel ignores the advice.
func TestPagesThatWereSwappedOut(t *testing.T) {
	for name, opt := range modes {
		p := newPool(t, images["big"], opt)
		if p.maps == nil {
			continue
		}
		for range 3 {
			s := get(t, p, maxMemory)
			model := bytes.Clone(images["big"])
			s.Grow(uint64(len(model)) + wasmPage)
			model = append(model, make([]byte, wasmPage)...)
			for i := Page; i < len(model); i += 9 * Page {
				s.Bytes()[i]++
				model[i]++
			}
			for _, advice := range []int{unix.MADV_COLD, unix.MADV_PAGEOUT} {
				if s.room == nil {
					if err := unix.Madvise(s.Bytes(), advice); err != nil && err != unix.EINVAL {
						t.Error(err)
					}
				}
				check(t, s, images["big"], model)
			}
			s.Release()
			s = get(t, p, maxMemory)
			s.Bytes()[3*Page]++
			if s.room == nil {
				unix.Madvise(s.Bytes(), unix.MADV_PAGEOUT)
			}
			s.Release()
			s = get(t, p, maxMemory)
			check(t, s, images["big"], images["big"])
			s.Release()
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestMappingsRunOut: then memories are copies in the heap, and so is what grows.
func TestMappingsRunOut(t *testing.T) {
	image := images["two"]
	m := other(func(m *machine) { m.budget.max = 3 })
	p := newPool(t, image, Options{ReplicaBytes: 1, machine: m})
	slots := []*Slot{get(t, p, maxMemory), get(t, p, maxMemory), get(t, p, maxMemory)}
	if slots[1].room != nil || slots[2].room == nil {
		t.Fatal("the third should be in the heap")
	}
	for i, s := range slots {
		s.Bytes()[9] = byte(i)
		model := append(bytes.Clone(image), make([]byte, wasmPage)...)
		model[9] = byte(i)
		if s.Grow(uint64(len(model))); s.room == nil {
			t.Error("grew into a mapping")
		}
		check(t, s, image, model)
	}
	if st := p.Stats(); st.Live != 3 || st.Grown != 3 || st.PrivateBytes != int64(st.Idle*Page+3*(len(image)+wasmPage)) || st.Mappings > 3 {
		t.Errorf("%+v", st)
	}
	for _, s := range slots {
		s.Release()
	}
	p.Trim()
	if st := p.Stats(); st.Mappings != 1 || st.PrivateBytes != 0 || m.budget.used.Load() != 1 {
		t.Errorf("%+v, %d mappings counted", st, m.budget.used.Load())
	}
	none := other(func(m *machine) { m.budget.max = 0 })
	q := newPool(t, image, Options{machine: none})
	s := get(t, q, maxMemory)
	check(t, s, image, image)
	s.Release()
}

// TestNothingLeaks: after as many lives as you like, mappings, descriptors and heap are what they were.
func TestNothingLeaks(t *testing.T) {
	image := images["two"]
	cycle := func(p *Pool, n int) {
		for i := range n {
			s := get(t, p, 1<<20)
			s.Bytes()[i%len(image)]++
			if i%3 == 0 {
				s.Grow(uint64(len(image) + (1+i%5)*wasmPage))
			}
			if i%7 == 0 {
				s.Grow(2 << 20)
				s.Dirty(func(uint32, []byte) bool { return true })
			}
			if i%4 == 0 {
				s.Discard()
			} else {
				s.Release()
			}
		}
	}
	measure := func() (maps, fds int, heap uint64) {
		runtime.GC()
		runtime.GC()
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return entries(t, ""), len(d), ms.HeapAlloc
	}
	p := newPool(t, image, Options{})
	cycle(p, 100)
	maps, fds, heap := measure()
	used := thisMachine().budget.used.Load()
	cycle(p, 20_000)
	for range 200 {
		q, err := NewPool(image, Options{})
		if err != nil {
			t.Fatal(err)
		}
		cycle(q, 10)
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := thisMachine().budget.used.Load(); n != used {
		t.Errorf("counted %d → %d", used, n)
	}
	// The Go runtime maps things of its own in between, a few for each thread, and has what it collects later. What a life left behind stays.
	var maps2, fds2 int
	var heap2 uint64
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if maps2, fds2, heap2 = measure(); maps2 <= maps+100 && fds2 <= fds && heap2 <= heap+1<<20 {
			return
		}
	}
	t.Errorf("mappings %d → %d, descriptors %d → %d, heap %d → %d", maps, maps2, fds, fds2, heap, heap2)
}

// TestSystemRefuses runs TestRefused in a process whose limits are low.
func TestSystemRefuses(t *testing.T) {
	for _, what := range []string{"memory", "files"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRefused$", "-test.v")
		// A thread that the runtime starts meanwhile is not to take an arena of as much as a slot.
		cmd.Env = append(os.Environ(), "SLOT_REFUSE="+what, "MALLOC_ARENA_MAX=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestRefused")) {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}

func TestRefused(t *testing.T) {
	what := os.Getenv("SLOT_REFUSE")
	if what == "" {
		t.Skip("run by TestSystemRefuses")
	}
	limit := func(resource int, value uint64) {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value}); err != nil {
			t.Fatal(err)
		}
	}
	if what == "files" {
		for fd := 0; ; fd++ {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
				limit(unix.RLIMIT_NOFILE, uint64(fd)) // the first that is free
				break
			}
		}
		if _, err := NewPool(images["two"], Options{}); !errors.Is(err, ErrMemory) || !errors.Is(err, unix.EMFILE) {
			t.Error(err)
		}
		return
	}
	// Steps are large, so that the Go runtime finds something when a slot does not.
	const size = 64 << 20
	image := make([]byte, size)
	image[77*Page] = 7
	p := newPool(t, image, Options{})
	s := get(t, p, maxMemory)
	s.Bytes()[3] = 3
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages uint64
	fmt.Sscan(string(b), &pages)
	limit(unix.RLIMIT_AS, pages*uint64(unix.Getpagesize())+3*size+size*3/4)
	if len(s.Grow(size+wasmPage)) != size+wasmPage || s.Bytes()[77*Page] != 7 {
		t.Error("there is memory for this, if not for room up to the limit")
	}
	if s.Grow(1<<30) != nil || !s.Refused() || s.Bytes()[3] != 3 || len(s.Bytes()) != size+wasmPage {
		t.Error("grew beyond what there is")
	}
	var slots []*Slot
	for len(slots) < 10 {
		s, err := p.Get(maxMemory)
		if err != nil {
			if !errors.Is(err, ErrMemory) || !errors.Is(err, unix.ENOMEM) {
				t.Error(err)
			}
			break
		}
		slots = append(slots, s)
	}
	if n := len(slots); n == 0 || n == 10 {
		t.Errorf("%d slots", n)
	}
	if _, err := NewPool(image, Options{}); !errors.Is(err, ErrMemory) {
		t.Error(err)
	}
	for _, s := range slots {
		s.Release()
	}
	s.Release()
}

// TestEntriesOfPagemap: what counts as private, swap included, which a test cannot bring about.
func TestEntriesOfPagemap(t *testing.T) {
	for entry, want := range map[uint64]bool{
		0:                        false,
		1 << 63:                  true,  // present
		1 << 62:                  true,  // swapped out
		1<<63 | 1<<61:            false, // a page of the file
		1<<62 | 1<<61:            false, // the same, on its way to another place
		1<<63 | 1<<55 | 1<<56:    true,  // other bits tell nothing
		1<<61 | 1<<55:            false,
		1<<62 | 1<<55 | 0x123456: true,
	} {
		if private(entry) != want {
			t.Errorf("%x: %v", entry, !want)
		}
	}
}

// TestManyRuns: more runs of written pages than the kernel returns at once, and more pages than are read at once.
func TestManyRuns(t *testing.T) {
	for _, name := range []string{"default", "pagemap"} {
		opt := modes[name]
		opt.KeepDirty = 1 << 20
		p := newPool(t, goLike, opt)
		for range 2 {
			s := get(t, p, maxMemory)
			check(t, s, goLike, goLike)
			model := append(bytes.Clone(goLike), make([]byte, 40*wasmPage)...)
			for i := range len(goLike) / Page {
				if i%2 == 0 || i > 900 {
					s.Bytes()[i*Page+i]++
					model[i*Page+i]++
				}
			}
			check(t, s, goLike, model[:len(goLike)])
			s.Release()
			if st := p.Stats(); st.Idle != 1 {
				t.Errorf("%+v", st)
			}
			s = get(t, p, maxMemory)
			check(t, s, goLike, goLike)
			copy(s.Bytes(), model)
			s.Grow(uint64(len(model)))
			for i := len(goLike); i < len(model); i += 3 * Page {
				s.Bytes()[i]++
				model[i]++
			}
			check(t, s, goLike, model)
			s.Release()
		}
	}
}

// TestMappedAnew: where pages cannot be taken away, a new mapping takes their place, and becomes one with its neighbours.
func TestMappedAnew(t *testing.T) {
	before := entries(t, "wasilo-image")
	p := newPool(t, tiny, modes["remap"])
	var slots []*Slot
	for range 100 {
		s := get(t, p, maxMemory)
		touch(s.Bytes(), 1)
		slots = append(slots, s)
	}
	for i, s := range slots {
		if i%2 == 0 {
			s.Discard()
		}
	}
	if now := entries(t, "wasilo-image") - before; now > p.Stats().Mappings {
		t.Errorf("%d mappings, %+v", now, p.Stats())
	}
	for i, s := range slots {
		if i%2 == 0 {
			s = get(t, p, maxMemory)
			check(t, s, tiny, tiny)
		}
		s.Release()
	}
}

// TestUnseenPagesAreNotKept: without the kernel's help, pages of a large image that were written but not changed would
// add up in idle slots.
func TestUnseenPagesAreNotKept(t *testing.T) {
	for _, name := range []string{"tiny", "big"} {
		p := newPool(t, images[name], modes["compare"])
		get(t, p, maxMemory).Release()
		if st := p.Stats(); st.Idle == 1 != (name == "tiny") {
			t.Errorf("%s: %+v", name, st)
		}
	}
}
