package consensus

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// A log whose end was cut off, as that of a leader which was cut off itself, is read again when it is opened again.
func TestLogsThatWereCutShort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "wasilo-log")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		open := func() *disk {
			d, _, err := openDisk(dir, "c", "n1", slog.New(slog.DiscardHandler), seam{segment: 16 << 10})
			if err != nil {
				t.Fatalf("the log cannot be opened: %v", err)
			}
			return d
		}
		d := open()
		defer func() { _ = d.close(true) }()
		first, model := uint64(1), [][]byte{} // entries from first on
		term := uint64(1)
		for range rapid.IntRange(3, 25).Draw(t, "steps") {
			last := first + uint64(len(model)) - 1
			switch rapid.SampledFrom([]string{"append", "append", "cut", "cut", "reopen"}).Draw(t, "do") {
			case "append":
				var logs []*raft.Log
				for range rapid.IntRange(1, 40).Draw(t, "entries") {
					data := bytes.Repeat([]byte{byte(rand.Uint32())}, rapid.IntRange(0, 700).Draw(t, "size"))
					logs = append(logs, &raft.Log{Index: first + uint64(len(model)), Term: term, Type: raft.LogCommand, Data: data, AppendedAt: time.Unix(1, 0)})
					model = append(model, data)
				}
				if err := d.StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
			case "cut":
				if len(model) < 2 {
					continue
				}
				at := first + uint64(rapid.IntRange(1, len(model)-1).Draw(t, "from"))
				if err := d.DeleteRange(at, last); err != nil {
					t.Fatal(err)
				}
				model = model[:at-first]
				term++
			case "reopen":
				if err := d.close(rapid.Bool().Draw(t, "orderly")); err != nil {
					t.Fatal(err)
				}
				d = open()
			}
		}
		if err := d.close(false); err != nil {
			t.Fatal(err)
		}
		d = open()
		got, err := d.LastIndex()
		if err != nil || got != first+uint64(len(model))-1 && !(len(model) == 0 && got == 0) {
			t.Fatalf("the last entry is %d, %v; want %d", got, err, first+uint64(len(model))-1)
		}
		for i, want := range model {
			var l raft.Log
			if err := d.GetLog(first+uint64(i), &l); err != nil || !bytes.Equal(l.Data, want) {
				t.Fatalf("entry %d: %d bytes, %v; want %d", first+uint64(i), len(l.Data), err, len(want))
			}
		}
	})
}

// What is no segment gets no index, and says where.
func TestWriteIndexRefusesWhatIsNoSegment(t *testing.T) {
	for name, content := range map[string][]byte{
		"nothing": nil, "a head": make([]byte, segmentHead), "zeros": make([]byte, 4096),
		"an unknown frame": append(make([]byte, segmentHead), 9, 0, 0, 0, 0, 0, 0, 0),
		"a long frame":     append(make([]byte, segmentHead), 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f),
	} {
		path := filepath.Join(t.TempDir(), "s.wal")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if start, err := writeIndex(path, 2); err == nil {
			t.Errorf("%s: an index at %d", name, start)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, content) {
			t.Errorf("%s: the file has changed", name)
		}
	}
}

// TestCutsBesideEachOther: raft deletes old entries while it cuts off the last one. What waits for raft-wal between the two must not come to be an
// entry in the place of the one that was cut off.
func TestCutsBesideEachOther(t *testing.T) {
	d, _, err := openDisk(t.TempDir(), "c", "n1", slog.New(slog.DiscardHandler), seam{segment: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close(true) }()
	entry := func(index uint64) []*raft.Log {
		return []*raft.Log{{Index: index, Term: 1, Type: raft.LogCommand, Data: []byte("data")}}
	}
	for i := uint64(1); i <= 10; i++ {
		if err := d.StoreLogs(entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	for first := uint64(1); first < 9; first++ {
		var wg sync.WaitGroup
		for _, at := range []uint64{first, 10} {
			wg.Go(func() {
				if err := d.DeleteRange(at, at); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if last, err := d.LastIndex(); err != nil || last != 9 {
			t.Fatalf("entry 10 was cut off, and the last is %d, %v", last, err)
		}
		if err := d.StoreLogs(entry(10)); err != nil {
			t.Fatal(err)
		}
	}
}
