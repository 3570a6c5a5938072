package sleep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ident(t testing.TB, kind, id string) abi.Identity {
	t.Helper()
	out, err := abi.NewIdentity(kind, id)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// nth is sleeper i with a state of n bytes that is its own.
func nth(t testing.TB, i, n int) (uint16, *Sleeper) {
	t.Helper()
	state := make([]byte, n)
	binary.LittleEndian.PutUint64(state[:8:8], uint64(i)*0x9e3779b97f4a7c15)
	for j := 8; j < n; j++ {
		state[j] = byte(i + j)
	}
	return uint16(i % Partitions), &Sleeper{
		Identity: ident(t, "counter", fmt.Sprintf("user-%08d", i)), Epoch: abi.Epoch{Generation: uint32(i), Index: uint64(i) * 3},
		Uses: uint8(i), Slept: time.Unix(int64(1_700_000_000+i), 0), State: state,
	}
}

func put(t testing.TB, s *Store, p uint16, z *Sleeper) {
	t.Helper()
	if err := s.Put(p, z); err != nil {
		t.Fatal(err)
	}
}

// take wants exactly z back.
func take(t testing.TB, s *Store, p uint16, want *Sleeper) {
	t.Helper()
	z, ok, err := s.Take(p, want.Identity, latest)
	if err != nil || !ok {
		t.Fatalf("%s: %v, %v", want.Identity, ok, err)
	}
	if !same(&z, want) {
		t.Fatalf("got %.100v, want %.100v", z, *want)
	}
}

func same(a, b *Sleeper) bool {
	return a.Identity == b.Identity && a.Epoch == b.Epoch && a.Uses == b.Uses && a.Slept.Equal(b.Slept) && bytes.Equal(a.State, b.State)
}

// memories are the two kinds of memory, of which this platform may have one.
func memories() map[string]*sysMem {
	m := map[string]*sysMem{"heap": nil}
	if sys := systemMemory(); sys != nil {
		m["system"] = sys
	}
	return m
}

// closed closes the store at the test's end and says what it holds on to.
func closed(t testing.TB, s *Store) *Store {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if b := s.bytes.Load(); b != 0 {
			t.Errorf("%d bytes are left", b)
		}
		if s.pages.maps != 0 {
			t.Errorf("%d mappings are left", s.pages.maps)
		}
		if s.file != nil && s.file.used.Load() != 0 {
			t.Errorf("%d bytes of the file are left", s.file.used.Load())
		}
	})
	return s
}

// spilling is a store with a file.
func spilling(t testing.TB, cfg Config, sys *sysMem) *Store {
	t.Helper()
	s := newStore(cfg, sys)
	f, err := openSpill(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.file = f
	return closed(t, s)
}
