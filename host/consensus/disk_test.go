package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// faulty is a disk that refuses what it is told to refuse.
type faulty struct {
	logAndStable
	entries, values, reads atomic.Pointer[error]
}

func (f *faulty) wrap(s logAndStable) logAndStable { f.logAndStable = s; return f }

func refused(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faulty) StoreLogs(l []*raft.Log) error {
	if err := refused(&f.entries); err != nil {
		return err
	}
	return f.logAndStable.StoreLogs(l)
}

func (f *faulty) Set(k, v []byte) error {
	if err := refused(&f.values); err != nil {
		return err
	}
	return f.logAndStable.Set(k, v)
}

func (f *faulty) SetUint64(k []byte, v uint64) error {
	if err := refused(&f.values); err != nil {
		return err
	}
	return f.logAndStable.SetUint64(k, v)
}

func (f *faulty) GetLog(i uint64, l *raft.Log) error {
	if err := refused(&f.reads); err != nil {
		return err
	}
	return f.logAndStable.GetLog(i, l)
}

var errFull error = &fs.PathError{Op: "write", Path: "segment", Err: syscall.ENOSPC}

// withDisks are three voters, each on a disk that can be made to fail.
func (w *world) withDisks() map[core.NodeID]*faulty {
	disks := map[core.NodeID]*faulty{}
	for _, id := range abc {
		f := &faulty{}
		disks[id] = f
		w.nodes[id].open(w.list(abc...), func(c *VoterConfig) { c.seam.wrap, c.seam.cache = f.wrap, 1 })
	}
	w.propose("one")
	return disks
}

// stopsFull waits for the end of a voter whose disk is full, and for what it says.
func (n *node) stopsFull() {
	n.w.t.Helper()
	err := n.awaitFailure()
	var disk *DiskError
	if !errors.Is(err, ErrDisk) || !errors.As(err, &disk) || !disk.Full || !errors.Is(err, syscall.ENOSPC) ||
		!strings.Contains(err.Error(), "the disk that holds "+filepath.Join(n.dir, raftDir, walDir)+" is full") || !strings.Contains(err.Error(), "Make room") {
		n.w.t.Errorf("%s: %v", n.id, err)
	}
	if s := n.State(); s != Failed {
		n.w.t.Errorf("%s is %s", n.id, s)
	}
	if _, _, err := n.Propose(context.Background(), []byte("late")); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrDisk) {
		n.w.t.Errorf("%s: %v", n.id, err)
	}
	n.close()
}

// TestFullDiskOfTheLeader: nothing is acknowledged, the process lives, the others go on, and with room it is one of them again.
func TestFullDiskOfTheLeader(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disks := w.withDisks()
		l := w.leader()
		disks[l.id].entries.Store(&errFull)
		if _, _, err := l.Propose(t.Context(), []byte("lost")); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("it was acknowledged, or said to be nowhere: %v", err)
		}
		l.stopsFull()
		w.propose("two")
		l.open(nil)
		for _, n := range w.sorted() {
			if got := n.machine.await(t, 2); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("%s has %v", n.id, got)
			}
		}
	}, abc...)
}

func TestFullDiskOfAFollower(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disks := w.withDisks()
		f, _ := w.followers(w.leader())
		disks[f.id].entries.Store(&errFull)
		w.propose("two")
		f.stopsFull()
		w.propose("three")
		f.open(nil)
		f.machine.await(t, 3)
	}, abc...)
}

// TestFullDiskAtAnElection: raft panics when it cannot keep its term, or its vote is refused; here the voter stops.
func TestFullDiskAtAnElection(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disks := w.withDisks()
		l := w.leader()
		f, other := w.followers(l)
		disks[f.id].values.Store(&errFull)
		if err := l.Transfer(t.Context()); err != nil && errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		f.stopsFull()
		w.propose("two")
		disks[f.id].values.Store(nil)
		f.open(nil)
		w.propose("three")
		for _, n := range []*node{l, f, other} {
			n.machine.await(t, 3)
		}
	}, abc...)
}

// TestFullDiskAtTheBeginning: what begins the log cannot be written.
func TestFullDiskAtTheBeginning(t *testing.T) {
	for _, what := range []string{"term", "entry"} {
		w := newWorld(t, newMemory(t), "a")
		a, f := w.nodes["a"], &faulty{}
		if what == "term" {
			f.values.Store(&errFull)
		} else {
			f.entries.Store(&errFull)
		}
		a.open(w.list("a"), func(c *VoterConfig) { c.seam.wrap = f.wrap })
		if err := a.awaitFailure(); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "is full") {
			t.Errorf("%s: %v", what, err)
		}
		a.close()
		if what == "entry" { // the term was kept: this directory is not new, and has no log to begin with
			continue
		}
		a.open(w.list("a"))
		w.propose("one")
	}
}

// TestDiskThatCannotBeRead: raft panics when an entry that was committed cannot be read.
func TestDiskThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		disks := w.withDisks()
		l := w.leader()
		broken := fmt.Errorf("input/output error: %w", syscall.EIO)
		disks[l.id].reads.Store(&broken)
		err := l.disk.shield(func() error { return l.disk.GetLog(1, &raft.Log{}) })
		if !errors.Is(err, ErrDisk) || !errors.Is(err, syscall.EIO) || strings.Contains(err.Error(), "full") {
			t.Error(err)
		}
		if err := l.awaitFailure(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "entry 1") {
			t.Error(err)
		}
		l.close()
		w.propose("two")
	}, abc...)
}

// TestSnapshotThatCannotBeWritten: the log would grow until the disk is full.
func TestSnapshotThatCannotBeWritten(t *testing.T) {
	w := newWorld(t, newMemory(t), "a")
	a := w.nodes["a"].open(w.list("a"))
	w.propose("one")
	dir := filepath.Join(a.dir, raftDir, snapshotDir)
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := a.raft.Snapshot().Error(); err == nil {
		t.Error("there is a snapshot")
	}
	if err := a.awaitFailure(); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}

// written is the directory of a voter that was closed in good order, with a snapshot, and entries after it.
func written(t *testing.T) (w *world, a *node, entries []string) {
	w = newWorld(t, newMemory(t), "a")
	a = w.nodes["a"].open(w.list("a"), smallFiles)
	for i := range 60 {
		w.propose(fmt.Sprintf("entry %d %s", i, strings.Repeat("x", 100)))
		if i == 30 {
			if err := a.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries = a.machine.all()
	a.close()
	return w, a, entries
}

func smallFiles(c *VoterConfig) {
	c.seam.segment, c.Trailing = 4096, 4
	c.Heartbeat, c.Election, c.Lease = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond // it is alone
}

func copyDir(t *testing.T, from string) string {
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestDamaged(t *testing.T) {
	_, a, _ := written(t)
	origin := a.dir
	only := func(pattern string) func(string) string {
		return func(dir string) string {
			found := must(filepath.Glob(filepath.Join(dir, raftDir, pattern)))
			if len(found) == 0 {
				t.Fatal("no", pattern)
			}
			return found[len(found)-1]
		}
	}
	passport, meta, tail := only(passportFile), only("wal/*.db"), only("wal/*.wal")
	state, about := only("snapshots/*/state.bin"), only("snapshots/*/meta.json")
	cut := func(part int) func(string) error {
		return func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()*int64(part)/10)
		}
	}
	edit := func(old, new string) func(string) error {
		return func(path string) error {
			b, err := os.ReadFile(path)
			if err == nil && !bytes.Contains(b, []byte(old)) {
				err = fmt.Errorf("%s does not contain %q", path, old)
			}
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(new), 1), 0o600)
		}
	}
	for _, c := range []struct {
		name   string
		file   func(string) string
		damage func(string) error
		kind   error
		text   string
	}{
		{"whose it is cannot be read", passport, cut(5), ErrDamaged, "voter.json is damaged"},
		{"whose it is has gone", passport, os.Remove, ErrDamaged, "it is missing, and the log is not empty"},
		{"another node's", passport, edit(`"a"`, `"z"`), ErrRefused, `belongs to node "z"; this is node "a"`},
		{"another cluster's", passport, edit(`"test"`, `"prod"`), ErrRefused, `a voter of cluster "prod"; this node is of "test"`},
		{"of a version to come", passport, edit(`"format": 1`, `"format": 2`), ErrRefused, "a newer wasilo has written"},
		{"of a version that never was", passport, edit(`"format": 1`, `"format": 0`), ErrDamaged, "format 0"},
		{"a nonce that is none", passport, edit(`"nonce": "`, `"nonce": "x`), ErrDamaged, "voter.json"},
		{"the log's state is empty", meta, func(p string) error { return os.Truncate(p, 0) }, ErrDamaged, "wal"},
		{"the log's state is cut", meta, cut(1), ErrDamaged, "wal"},
		{"the log's state has gone", meta, os.Remove, ErrDamaged, "wal"},
		{"the log is cut", tail, cut(2), ErrDamaged, "it was cut to"},
		{"the log is empty", tail, func(p string) error { return os.Truncate(p, 0) }, ErrDamaged, "wal"},
		{"the end of the log has gone", tail, os.Remove, ErrDamaged, "the voter was closed after entry"},
		{"an entry is another", tail, edit("entry 50", "entry 51"), ErrDamaged, "checksum is wrong"},
		{"a snapshot is another", state, edit("entry 7", "entry 8"), ErrDamaged, "CRC mismatch"},
		{"a snapshot is cut", state, cut(5), ErrDamaged, "CRC mismatch"},
		{"what a snapshot is cannot be read", about, cut(5), ErrDamaged, "snapshots"},
		{"a snapshot has gone", state, func(p string) error { return os.RemoveAll(filepath.Dir(p)) }, ErrDamaged, "there is no snapshot of what was before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.dir = copyDir(t, origin)
			if err := c.damage(c.file(a.dir)); err != nil {
				t.Fatal(err)
			}
			v, err := OpenVoter(a.config(nil, smallFiles))
			if v != nil {
				_ = v.Close(t.Context())
			}
			dir := filepath.Join(a.dir, raftDir)
			if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), dir) {
				t.Fatal(err)
			}
			if c.kind == ErrDamaged && !strings.Contains(err.Error(), "move "+dir+" away") {
				t.Error(err)
			}
			t.Log(err)
		})
	}
}

// TestFlippedBits: wherever a bit of the log changes, the voter is refused, or has lost nothing.
func TestFlippedBits(t *testing.T) {
	_, a, want := written(t)
	origin := a.dir
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	files := must(filepath.Glob(filepath.Join(origin, raftDir, "wal", "*.wal")))
	found := 0
	const flips = 100
	for range flips {
		a.dir = copyDir(t, origin)
		path := filepath.Join(a.dir, raftDir, walDir, filepath.Base(files[random.IntN(len(files))]))
		b := must(os.ReadFile(path))
		used := len(bytes.TrimRight(b, "\x00"))
		if used == 0 {
			continue
		}
		at := random.IntN(used)
		b[at] ^= 1 << random.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := OpenVoter(a.config(nil, smallFiles))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d of %s: %v", at, path, err)
			}
			found++
			continue
		}
		a.Voter = v
		if got := a.machine.await(t, len(want)); !slices.Equal(got, want) {
			t.Errorf("byte %d of %s changed what is in the log", at, path)
		}
		a.close()
	}
	t.Logf("%d of %d flips were found", found, flips)
}

// TestCrash: a directory that was copied while the voter was at work, as a crash leaves it, opens, with all that was acknowledged.
func TestCrash(t *testing.T) {
	w := newWorld(t, newMemory(t), "a")
	a := w.nodes["a"].open(w.list("a"), smallFiles)
	for i := range 20 {
		w.propose(fmt.Sprint(i))
	}
	want := a.machine.all()
	origin := a.dir
	crashed := copyDir(t, origin)
	if err := os.Mkdir(filepath.Join(crashed, raftDir, snapshotDir, "1-2-3.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	a.close()
	a.dir = crashed
	a.open(nil, smallFiles)
	if got := a.machine.await(t, len(want)); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestRecover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		for i := range 5 {
			w.propose(fmt.Sprint(i))
		}
		var lost []string
		l := w.leader()
		id := l.ID()
		for _, n := range w.sorted() { // all of them, while there is a leader who can tell them
			n.machine.await(t, 5)
		}
		for _, n := range w.sorted() {
			if n != l {
				lost = append(lost, n.ID().String())
			}
			n.close()
		}
		recover := func(raise func([]byte) ([]byte, error)) (Recovered, error) {
			return Recover(t.Context(), RecoverConfig{Dir: l.dir, Cluster: "test", Self: l.id, Authority: l.authority, Machine: &journal{}, Raise: raise,
				Log: slog.New(slog.DiscardHandler)})
		}
		broken := errors.New("no")
		if _, err := recover(func([]byte) ([]byte, error) { return nil, broken }); err == nil || !strings.Contains(err.Error(), "no") {
			t.Error(err)
		}
		for generation := 1; generation <= 2; generation++ { // it may be repeated
			time.Sleep(time.Millisecond) // raft names snapshots by the time
			r, err := recover(func(b []byte) ([]byte, error) {
				return append(append([]byte(nil), b...), "\x00\x00\x00\x01G"...), nil
			})
			if err != nil || r.ID == id || r.ID.Node != l.id || r.Index < 5 {
				t.Fatalf("%+v, %v", r, err)
			}
			id = r.ID
			if generation == 1 && !slices.Equal(r.Lost, lost) {
				t.Errorf("lost %v, and not %v", r.Lost, lost)
			}
		}
		l.open(w.list(abc...))
		w.propose("5")
		if got := l.machine.all(); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "G", "G", "5"}) {
			t.Errorf("%v", got)
		}
		if members, _ := l.Voters(); len(members) != 1 || members[0].ID != id || l.ID() != id {
			t.Errorf("%s: %v", l.ID(), members)
		}
		// Others join with new disks.
		f := w.add("d").open(nil)
		if _, err := l.Add(t.Context(), w.list("d")[0], true); err != nil {
			t.Fatal(err)
		}
		if got := f.machine.await(t, 8); !slices.Equal(got, l.machine.all()) {
			t.Errorf("%v", got)
		}
		if _, err := Recover(t.Context(), RecoverConfig{Dir: t.TempDir(), Cluster: "test", Self: "a", Authority: "a:1", Machine: &journal{},
			Raise: func(b []byte) ([]byte, error) { return b, nil }}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "there is no log") {
			t.Error(err)
		}
	}, abc...)
}

// TestRecoverIsInterrupted: whatever of a recovery is on disk, the voter is who it was, or all that the recovery makes of it, and a recovery may follow.
func TestRecoverIsInterrupted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("0")
		l := w.leader()
		gone, _ := w.followers(l)
		if _, err := l.Remove(t.Context(), string(gone.id), true); err != nil { // so that there is a configuration in the midst of the log
			t.Fatal(err)
		}
		w.propose("1")
		old := l.ID()
		for _, n := range w.sorted() {
			n.close()
		}
		join := func(elem ...string) string { return filepath.Join(append([]string{l.dir, raftDir}, elem...)...) }
		var passport []byte // of the recovery
		recover := func() Recovered {
			time.Sleep(time.Millisecond) // raft names snapshots by the time
			r, err := Recover(t.Context(), RecoverConfig{Dir: l.dir, Cluster: "test", Self: l.id, Machine: &journal{}, Log: slog.New(slog.DiscardHandler),
				Raise: func(b []byte) ([]byte, error) {
					passport = must(os.ReadFile(join(nextFile)))
					return append(append([]byte(nil), b...), "\x00\x00\x00\x01G"...), nil
				}})
			if err != nil || r.ID == old {
				t.Fatalf("%+v, %v", r, err)
			}
			return r
		}
		before := l.dir
		l.dir = copyDir(t, before)
		made := recover()
		after, next := l.dir, passport

		replace := func(what, from string) {
			if err := os.RemoveAll(join(what)); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(join(what), os.DirFS(filepath.Join(from, raftDir, what))); err != nil {
				t.Fatal(err)
			}
		}
		write := func(name string, b []byte) {
			if err := os.WriteFile(join(name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for i, at := range []struct {
			name string
			make func()
			id   RaftID
			want []string
		}{
			{"without the snapshot", func() { l.dir = copyDir(t, before); write(nextFile, next) }, old, []string{"0", "1"}},
			{"with the log of before", func() { l.dir = copyDir(t, before); write(nextFile, next); replace(snapshotDir, after) }, made.ID, []string{"0", "1", "G"}},
			{"under the name of before", func() {
				l.dir = copyDir(t, after)
				write(nextFile, next)
				write(passportFile, must(os.ReadFile(filepath.Join(before, raftDir, passportFile))))
			}, made.ID, []string{"0", "1", "G"}},
			{"at its end", func() { l.dir = copyDir(t, after) }, made.ID, []string{"0", "1", "G"}},
		} {
			for _, again := range []bool{false, true} {
				at.make()
				id, want := at.id, at.want
				if again {
					r := recover()
					if id != old && (r.ID == id || r.Lost != nil) || id == old && len(r.Lost) != 1 {
						t.Errorf("%s: %+v", at.name, r)
					}
					id, want = r.ID, append(slices.Clone(want), "G")
				}
				l.open(w.list(abc...))
				if l.ID() != id {
					t.Errorf("%s, again: %t: it is %s, and not %s", at.name, again, l.ID(), id)
				}
				if id != old {
					want = append(want[:len(want):len(want)], "x")
					w.propose("x")
					d := w.add(core.NodeID(fmt.Sprintf("d%d-%t", i, again))).open(nil)
					if _, err := l.Add(t.Context(), w.list(d.id)[0], true); err != nil {
						t.Fatal(err)
					}
					if got := d.machine.await(t, len(want)); !slices.Equal(got, want) {
						t.Errorf("%s, again: %t: who joins has %q, and not %q", at.name, again, got, want)
					}
					d.close()
				} else if members, _ := l.Voters(); len(members) != 2 {
					t.Errorf("%s: %v", at.name, members)
				}
				if got := l.machine.all(); id != old && !slices.Equal(got, want) {
					t.Errorf("%s, again: %t: it has %q, and not %q", at.name, again, got, want)
				}
				l.close()
			}
		}
	}, abc...)
}

// TestAddAfterRecover: a log of before a recovery does not go on after it, since the raised generation is in no entry.
func TestAddAfterRecover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.start(nil, abc...)
		w.propose("0")
		l := w.leader()
		former, _ := w.followers(l)
		former.machine.await(t, 1)
		for _, n := range w.sorted() {
			n.close()
		}
		if _, err := Recover(t.Context(), RecoverConfig{Dir: l.dir, Cluster: "test", Self: l.id, Machine: &journal{}, Log: slog.New(slog.DiscardHandler),
			Raise: func(b []byte) ([]byte, error) { return append(append([]byte(nil), b...), "\x00\x00\x00\x01G"...), nil }}); err != nil {
			t.Fatal(err)
		}
		l.open(w.list(abc...))
		w.propose("1")
		former.open(w.list(abc...))
		if _, err := l.Add(t.Context(), w.list(former.id)[0], true); !errors.Is(err, ErrRefused) ||
			!strings.Contains(err.Error(), "of before the voters were recovered") || !strings.Contains(err.Error(), "move its DIR/raft away") {
			t.Error(err)
		}
		former.close()
		if err := os.RemoveAll(filepath.Join(former.dir, raftDir)); err != nil {
			t.Fatal(err)
		}
		former.open(nil)
		if _, err := l.Add(t.Context(), w.list(former.id)[0], true); err != nil {
			t.Fatal(err)
		}
		if got, want := former.machine.await(t, 3), []string{"0", "G", "1"}; !slices.Equal(got, want) {
			t.Errorf("%q, and not %q", got, want)
		}
	}, abc...)
}
