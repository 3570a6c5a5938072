package sleep

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestSpill: what was spilled comes back, the file shrinks with it, and memory stays below its bound.
func TestSpill(t *testing.T) {
	const most = 1 << 20
	s := spilling(t, Config{MaxBytes: most}, systemMemory())
	sizes := []int{60, 300, 3000, 40 << 10, 200 << 10}
	const n = 1000
	for i := range n {
		p, z := nth(t, i, sizes[i%len(sizes)])
		put(t, s, p%4, z)
		if b := s.Stats().Bytes; b > most+chunkBytes {
			t.Fatalf("%d bytes after %d", b, i)
		}
	}
	st := s.Stats()
	if st.Sleepers != n || st.Spilled < n/2 || st.SpilledBytes < 40<<20 || st.SpilledBytes > 60<<20 {
		t.Fatalf("%+v", st)
	}
	for i := range n {
		if p, z := nth(t, i, 8); !s.Has(p%4, z.Identity) {
			t.Fatal(i)
		}
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	for i := range n { // replaced, where they are
		p, z := nth(t, i, sizes[i%len(sizes)])
		z.Uses++
		put(t, s, p%4, z)
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	if s.Spill(0); s.Stats().Spilled != n {
		t.Errorf("%+v", s.Stats())
	}
	for i := range n {
		p, z := nth(t, i, sizes[i%len(sizes)])
		z.Uses++
		take(t, s, p%4, z)
	}
	if st := s.Stats(); st.Sleepers != 0 || st.Bytes != 0 || st.SpilledBytes != 0 {
		t.Errorf("%+v", st)
	}
}

// TestCold: chunks that were used last stay longest.
func TestCold(t *testing.T) {
	s := spilling(t, Config{}, systemMemory())
	const n = 3000
	for i := range n {
		_, z := nth(t, i, 1000)
		put(t, s, uint16(i/1000), z)
	}
	s.Spill(s.Stats().Bytes / 2)
	inMemory := 0
	for p := range uint16(3) {
		n := 0
		for _, c := range s.parts[p].arena.chunks {
			if c != nil && !c.spilled {
				n += c.count
			}
		}
		if p == 0 && n > 100 || p == 2 && n < 900 { // 0 has its active chunk at most
			t.Errorf("partition %d: %d in memory", p, n)
		}
		inMemory += n
	}
	if inMemory == 0 || inMemory == n {
		t.Error(inMemory)
	}
}

// TestFileGarbage: the file stays within a few times of what it holds while sleepers come and go.
func TestFileGarbage(t *testing.T) {
	s := spilling(t, Config{MaxBytes: 1 << 20}, systemMemory())
	const alive = 12_000
	for i := range 10 * alive {
		p, z := nth(t, i, 400)
		put(t, s, p%4, z)
		if gone := i - alive; gone >= 0 && gone%16 != 0 { // one of 16 stays
			p, z := nth(t, gone, 400)
			take(t, s, p%4, z)
		}
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if live := int64(st.Sleepers) * 460; st.SpilledBytes > 3*live {
		t.Errorf("%+v, of which live %d", st, live)
	}
	t.Logf("%+v, of which live %d", st, int64(st.Sleepers)*460)
}

// faulty is a disk with faults.
type faulty struct {
	disk
	full   atomic.Bool
	short  atomic.Bool  // reads end early
	broken atomic.Bool  // reads fail
	flip   atomic.Int64 // reads have a bit turned so far from the end of a read, when not 0
	writes func()       // called before a write
}

var errIO = &os.PathError{Op: "read", Path: "f", Err: syscall.EIO}

func (f *faulty) WriteAt(b []byte, off int64) (int, error) {
	if f.writes != nil {
		f.writes()
	}
	if f.full.Load() {
		n, _ := f.disk.WriteAt(b[:len(b)/2], off)
		return n, &os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}
	}
	return f.disk.WriteAt(b, off)
}

func (f *faulty) ReadAt(b []byte, off int64) (int, error) {
	switch {
	case f.broken.Load():
		return 0, errIO
	case f.short.Load():
		n, _ := f.disk.ReadAt(b[:len(b)/2], off)
		return n, io.EOF
	}
	n, err := f.disk.ReadAt(b, off)
	if at := f.flip.Load(); at > 0 && int(at) <= n {
		b[n-int(at)] ^= 0x10
	}
	return n, err
}

func withFaults(t *testing.T, cfg Config) (*Store, *faulty) {
	s := spilling(t, cfg, systemMemory())
	f := &faulty{disk: s.file.disk}
	s.file.disk = f
	return s, f
}

// TestDiskFull: nothing is lost, Put refuses, one line says so, and it goes on when there is room again.
func TestDiskFull(t *testing.T) {
	var log bytes.Buffer
	s, f := withFaults(t, Config{MaxBytes: 256 << 10, Log: slog.New(slog.NewTextHandler(&log, nil))})
	now := time.Unix(1000, 0)
	s.now = func() time.Time { return now }
	f.full.Store(true)
	n := 0
	var err error
	for ; err == nil && n < 10_000; n++ {
		p, z := nth(t, n, 1000)
		err = s.Put(p%4, z)
	}
	n--
	if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	p, z := nth(t, n, 1000)
	if err := s.Put(p%4, z); !errors.Is(err, ErrFull) || s.Stats().SpillErrors != 1 { // it is not tried at once
		t.Error(err, s.Stats())
	}
	now = now.Add(2 * time.Second)
	if err := s.Put(p%4, z); !errors.Is(err, ErrFull) || s.Stats().SpillErrors != 2 {
		t.Error(err, s.Stats())
	}
	if freed := s.Spill(0); freed != 0 {
		t.Error(freed)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "no space left") {
		t.Errorf("%d lines: %s", lines, log.String())
	}
	now = now.Add(2 * time.Minute)
	s.Spill(0)
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines", lines)
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	f.full.Store(false)
	now = now.Add(2 * time.Second)
	put(t, s, p%4, z)
	if st := s.Stats(); st.Spilled == 0 || st.Sleepers != n+1 {
		t.Errorf("%+v", st)
	}
	for i := range n + 1 {
		p, z := nth(t, i, 1000)
		take(t, s, p%4, z)
	}
}

// TestDamagedFile: whatever is wrong with the file, the error says whose state is lost, and it is gone.
func TestDamagedFile(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*faulty)
		want  error
	}{
		"short":   {func(f *faulty) { f.short.Store(true) }, io.ErrUnexpectedEOF},
		"broken":  {func(f *faulty) { f.broken.Store(true) }, syscall.EIO},
		"state":   {func(f *faulty) { f.flip.Store(1) }, errChecksum},
		"header":  {func(f *faulty) { f.flip.Store(100 + 13 + headLen) }, errHead},
		"key":     {func(f *faulty) { f.flip.Store(100 + 1) }, errHead},
		"lengths": {func(f *faulty) { f.flip.Store(100 + 21 + headLen - 14) }, errHead},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := withFaults(t, Config{})
			_, z := nth(t, 1, 100)
			_, other := nth(t, 2, 100)
			put(t, s, 5, z)
			put(t, s, 6, other)
			s.Spill(0)
			c.fault(f)
			if !s.Has(5, z.Identity) {
				t.Error("there is nothing to take")
			}
			got, ok, err := s.Take(5, z.Identity, latest)
			var damaged *DamagedError
			if ok || !errors.Is(err, c.want) || !errors.As(err, &damaged) || damaged.Identity != z.Identity || damaged.Where != "the spill file" {
				t.Fatal(got, ok, err)
			}
			if _, ok, err := s.Take(5, z.Identity, latest); ok || err != nil || s.Has(5, z.Identity) {
				t.Error(ok, err)
			}
			put(t, s, 6, other) // in place of one that may be unreadable
			s.file.disk = f.disk
			take(t, s, 6, other)
			if st := s.Stats(); st.Sleepers != 0 || st.Damaged == 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestDropKinds: of several kinds in one look, in memory and in the file, each by its own measure; what cannot be read stays, and is told.
func TestDropKinds(t *testing.T) {
	s, f := withFaults(t, Config{})
	const each = 100
	kinds := []string{"all", "some", "other", "none"}
	fill := func(from int) {
		for i := from; i < from+each; i++ {
			for _, kind := range kinds {
				_, z := nth(t, i, 300)
				z.Identity = ident(t, kind, z.Identity.ID())
				put(t, s, uint16(i%2), z)
			}
		}
	}
	fill(0)
	s.Spill(0)
	fill(each)
	asked := 0
	which := map[string]func(Info) bool{
		"all":    nil,
		"some":   func(i Info) bool { asked++; return i.Epoch.Generation%4 == 1 },
		"none":   func(i Info) bool { asked++; return false },
		"nobody": func(i Info) bool { t.Error(i); return true },
	}
	f.broken.Store(true)
	if n, err := s.DropKinds(1, which); n != each/2+each/4 || !errors.Is(err, syscall.EIO) || asked != each {
		t.Errorf("%d dropped, %d asked for, %v", n, asked, err)
	}
	f.broken.Store(false)
	if n, err := s.DropKinds(1, which); n != each/2+each/4 || err != nil {
		t.Errorf("%d dropped, %v", n, err)
	}
	if n, err := s.DropKinds(1, which); n != 0 || err != nil {
		t.Errorf("%d dropped again, %v", n, err)
	}
	left := map[string]int{}
	for p := range uint16(2) {
		for _, i := range s.Partition(p) {
			left[i.Identity.Kind()]++
		}
	}
	if want := map[string]int{"all": each, "some": 3 * each / 2, "other": 2 * each, "none": 2 * each}; !maps.Equal(left, want) {
		t.Errorf("%v are left", left)
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

// TestDamagedMemory turns bits of the second of three records, one at a time.
func TestDamagedMemory(t *testing.T) {
	for _, size := range []int{20, soloBytes + 1} {
		s := closed(t, newStore(Config{}, systemMemory()))
		var zs [3]*Sleeper
		for i := range zs {
			_, zs[i] = nth(t, i, size)
		}
		length := headLen + len(zs[1].Identity.Key()) + size
		for bit := 0; bit < 8*length; bit += 1 + bit/1000*999 {
			for _, z := range zs {
				put(t, s, 0, z)
			}
			rec := s.parts[0].arena.chunks[1].mem[length:]
			if size > soloBytes {
				rec = s.parts[0].arena.chunks[2].mem
			}
			rec[bit/8] ^= 1 << (bit % 8)
			_, ok, err := s.Take(0, zs[1].Identity, latest)
			var damaged *DamagedError
			if ok || !errors.As(err, &damaged) || damaged.Where != "memory" {
				t.Fatalf("bit %d: %v, %v", bit, ok, err)
			}
			take(t, s, 0, zs[0])
			take(t, s, 0, zs[2])
			if st := s.Stats(); st.Sleepers != 0 || st.Bytes != 0 {
				t.Fatalf("bit %d: %+v", bit, st)
			}
		}
	}
}

// TestDamagedCompaction: a chunk that cannot be walked stays, and its other records come back.
func TestDamagedCompaction(t *testing.T) {
	s := closed(t, newStore(Config{}, systemMemory()))
	const n = 100
	for i := range n {
		_, z := nth(t, i, 100)
		put(t, s, 0, z)
	}
	first := s.parts[0].arena.chunks[1]
	in := first.count
	first.mem[first.fill/first.count*(in/2)+5] ^= 1
	for i := range n {
		if _, z := nth(t, i, 100); i%8 != 1 && i != in/2 {
			take(t, s, 0, z)
		}
	}
	_, z := nth(t, in/2, 100)
	if _, ok, err := s.Take(0, z.Identity, latest); ok || !errors.Is(err, errHead) {
		t.Error(ok, err)
	}
	for i := range n {
		if _, z := nth(t, i, 100); i%8 == 1 && i != in/2 {
			take(t, s, 0, z)
		}
	}
	if st := s.Stats(); st.Sleepers != 0 || st.Bytes != 0 || st.Damaged != 1 {
		t.Errorf("%+v", st)
	}
}

// TestWhileWriting: records are taken, replaced and dropped while their chunk is written.
func TestWhileWriting(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *Store){
		"take": func(t *testing.T, s *Store) {
			for i := range 30 {
				_, z := nth(t, i, 1000)
				take(t, s, 0, z)
			}
		},
		"take all": func(t *testing.T, s *Store) {
			for i := range 40 {
				_, z := nth(t, i, 1000)
				take(t, s, 0, z)
			}
			_, z := nth(t, 40, 100<<10)
			take(t, s, 0, z)
		},
		"drop": func(t *testing.T, s *Store) {
			if s.Drop(0) != 41 {
				t.Error("dropped others")
			}
		},
		"replace": func(t *testing.T, s *Store) {
			for i := range 40 {
				_, z := nth(t, i, 1000)
				z.Uses = 77
				put(t, s, 0, z)
			}
		},
	} {
		for _, full := range []bool{false, true} {
			s, f := withFaults(t, Config{})
			for i := range 40 {
				_, z := nth(t, i, 1000)
				put(t, s, 0, z)
			}
			_, z := nth(t, 40, 100<<10)
			put(t, s, 0, z)
			f.full.Store(full)
			once := true
			f.writes = func() {
				if once {
					once = false
					meanwhile(t, s)
				}
			}
			s.Spill(0)
			f.full.Store(false)
			if err := s.check(); err != nil {
				t.Errorf("%s, %v: %v", name, full, err)
			}
			s.Spill(0)
			if err := s.check(); err != nil {
				t.Errorf("%s, %v: %v", name, full, err)
			}
			for i := range 40 {
				_, z := nth(t, i, 1000)
				got, ok, err := s.Take(0, z.Identity, latest)
				if name == "replace" {
					z.Uses = 77
				}
				there := name == "replace" || name == "take" && i >= 30
				if err != nil || ok != there || ok && !same(&got, z) {
					t.Errorf("%s, %v: %d: %v %v", name, full, i, ok, err)
				}
			}
		}
	}
}

// TestOthersTakeWhatIsSpilled: that others fill what a Put has spilled for itself is no reason to refuse it.
func TestOthersTakeWhatIsSpilled(t *testing.T) {
	s, f := withFaults(t, Config{MaxBytes: 256 << 10})
	n := 0
	for ; s.bytes.Load() < 200<<10; n++ {
		p, z := nth(t, n, 1000)
		put(t, s, p%4, z)
	}
	const others, large = 10, 60 << 10
	came := 0
	f.writes = func() {
		if came < others {
			_, z := nth(t, n+came, large)
			came++
			if err := s.put(&s.parts[9], z, anyway); err != nil { // as if it had found room just now
				t.Error(err)
			}
		}
	}
	_, mine := nth(t, n+others, 100<<10)
	put(t, s, 8, mine)
	if came != others {
		t.Errorf("%d others came", came)
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
	take(t, s, 8, mine)
	for i := range n {
		p, z := nth(t, i, 1000)
		take(t, s, p%4, z)
	}
	for i := range others {
		_, z := nth(t, n+i, large)
		take(t, s, 9, z)
	}
}

// TestMovedWhileRead: a record that moves between being looked up and being read is found where it went.
func TestMovedWhileRead(t *testing.T) {
	s := spilling(t, Config{}, systemMemory())
	const n = 400
	for i := range n {
		_, z := nth(t, i, 1000)
		put(t, s, 0, z)
	}
	s.Spill(0)
	for i := range n {
		if i%4 != 0 {
			_, z := nth(t, i, 1000)
			take(t, s, 0, z)
		}
	}
	once := true
	s.file.disk = &onRead{disk: s.file.disk, f: func() {
		if once {
			once = false
			s.spilling.Lock()
			s.pullAll(1000)
			s.spilling.Unlock()
			for i := range 100 { // the places in the file are used by others
				_, z := nth(t, 1000+i, 1000)
				put(t, s, 1, z)
			}
			s.Spill(0)
		}
	}}
	for i := 0; i < n; i += 4 {
		_, z := nth(t, i, 1000)
		take(t, s, 0, z)
	}
	if once {
		t.Error("nothing was read")
	}
}

type onRead struct {
	disk
	f func()
}

func (o *onRead) ReadAt(b []byte, off int64) (int, error) {
	o.f()
	return o.disk.ReadAt(b, off)
}

func files(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestLeftovers: files of the dead are removed, those of the living and of others are not.
func TestLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	a, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sleepers-123.spill", "sleepers-.spill", "other", "sleepers-1.spill.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mine := filepath.Base(a.file.disk.(osFile).Name())
	b, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	names := files(t, dir)
	if len(names) != 4 || !slices.Contains(names, mine) || !slices.Contains(names, "other") || !slices.Contains(names, "sleepers-1.spill.txt") {
		t.Error(names)
	}
	for _, s := range []*Store{a, b} {
		_, z := nth(t, 1, 60)
		put(t, s, 0, z)
		s.Spill(0)
		take(t, s, 0, z)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if names := files(t, dir); len(names) != 2 {
		t.Error(names)
	}
	if _, err := New(Config{Dir: filepath.Join(dir, "other")}); err == nil {
		t.Error("a file for a directory")
	}
}
