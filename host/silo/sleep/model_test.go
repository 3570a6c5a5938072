package sleep

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

// TestModel compares a store with a map, and after each step its books with what is there. Some hash to few values.
func TestModel(t *testing.T) {
	for name, sys := range memories() {
		for _, mask := range []uint64{^uint64(0), 3 << 62, 0} {
			t.Run(fmt.Sprintf("%s/%x", name, mask), func(t *testing.T) {
				dir := t.TempDir()
				rapid.Check(t, func(rt *rapid.T) { model(rt, dir, sys, mask) })
			})
		}
	}
}

func model(t *rapid.T, dir string, sys *sysMem, mask uint64) {
	type where struct {
		p  uint16
		id abi.Identity
	}
	cfg := Config{}
	if rapid.Bool().Draw(t, "bounded") {
		cfg.MaxBytes = 1 << 20
	}
	s := newStore(cfg, sys)
	s.mask = mask
	if rapid.IntRange(0, 3).Draw(t, "dir") > 0 {
		f, err := openSpill(dir)
		if err != nil {
			t.Fatal(err)
		}
		s.file = f
	}
	want := make(map[where]Sleeper)
	kinds := []string{"a", "bank", "chat-room"}
	place := rapid.Custom(func(t *rapid.T) where {
		p := rapid.Uint16Range(0, 2).Draw(t, "p")
		id, err := abi.NewIdentity(rapid.SampledFrom(kinds).Draw(t, "kind"), fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "id")))
		if err != nil {
			t.Fatal(err)
		}
		return where{p, id}
	})
	size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 5000), rapid.IntRange(0, 60<<10))
	taken := func(t *rapid.T, at where) {
		z, ok, err := s.Take(at.p, at.id, latest)
		w, there := want[at]
		if err != nil || ok != there || ok && !same(&z, &w) {
			t.Fatalf("%v: %v %v, want %v", at, ok, err, there)
		}
		delete(want, at)
	}
	n := 0
	puts := func(t *rapid.T) {
		at := place.Draw(t, "at")
		n++
		z := Sleeper{Identity: at.id, Epoch: abi.Epoch{Generation: uint32(n), Index: uint64(n) << 33}, Uses: uint8(n),
			Slept: time.Unix(int64(n), 0), State: make([]byte, size.Draw(t, "size"))}
		for i := range z.State {
			z.State[i] = byte(i*7 + n)
		}
		switch err := s.Put(at.p, &z); {
		case err == nil:
			want[at] = z
		case !errors.Is(err, ErrFull) || cfg.MaxBytes == 0:
			t.Fatal(err)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"put": puts, "put more": func(t *rapid.T) {
			for range 20 {
				puts(t)
			}
		},
		"put back": func(t *rapid.T) { // several that are out at one time
			var out []where
			for range rapid.IntRange(1, 20).Draw(t, "n") {
				at := place.Draw(t, "at")
				if w, there := want[at]; there && !slices.Contains(out, at) {
					taken(t, at)
					want[at] = w
					out = append(out, at)
				}
			}
			for _, at := range out {
				z := want[at]
				if err := s.PutBack(at.p, &z); err != nil {
					t.Fatal(err)
				}
			}
		},
		"take": func(t *rapid.T) { taken(t, place.Draw(t, "at")) },
		"retake": func(t *rapid.T) { // what is there, several at once
			some := slices.SortedFunc(maps.Keys(want), func(a, b where) int {
				return int(want[a].Epoch.Generation) - int(want[b].Epoch.Generation)
			})
			for range min(len(some), rapid.IntRange(1, 40).Draw(t, "n")) {
				i := rapid.IntRange(0, len(some)-1).Draw(t, "i")
				taken(t, some[i])
			}
		},
		"has": func(t *rapid.T) {
			at := place.Draw(t, "at")
			if _, there := want[at]; s.Has(at.p, at.id) != there {
				t.Fatalf("%v: Has is not %v", at, there)
			}
		},
		"drop": func(t *rapid.T) {
			p := rapid.Uint16Range(0, 20).Draw(t, "p")
			before := len(want)
			maps.DeleteFunc(want, func(k where, _ Sleeper) bool { return k.p == p })
			if n := s.Drop(p); n != before-len(want) {
				t.Fatalf("dropped %d of %d", n, before-len(want))
			}
		},
		"drop kind": func(t *rapid.T) {
			kind, odd := rapid.SampledFrom(kinds).Draw(t, "kind"), rapid.Bool().Draw(t, "odd")
			var which func(Info) bool
			if odd {
				which = func(i Info) bool { return i.Uses%2 == 1 }
			}
			before := len(want)
			maps.DeleteFunc(want, func(k where, z Sleeper) bool { return k.id.Kind() == kind && (!odd || z.Uses%2 == 1) })
			if n := s.DropKind(kind, which); n != before-len(want) {
				t.Fatalf("dropped %d of %d", n, before-len(want))
			}
		},
		"spill": func(t *rapid.T) {
			before := s.Stats()
			freed := s.Spill(rapid.Int64Range(0, 1<<20).Draw(t, "target"))
			if after := s.Stats(); after.Sleepers != before.Sleepers || freed != max(before.Bytes-after.Bytes, 0) {
				t.Fatalf("%+v %+v %d", before, after, freed)
			}
		},
		"pull": func(*rapid.T) {
			s.spilling.Lock()
			defer s.spilling.Unlock()
			if s.file != nil {
				s.pullAll(1)
			}
		},
		"list": func(t *rapid.T) {
			kind, after := rapid.SampledFrom(append(kinds, "")).Draw(t, "kind"), rapid.SampledFrom([]string{"", "a/2", "bank/", "c"}).Draw(t, "after")
			limit := rapid.IntRange(0, 50).Draw(t, "limit")
			var keys []string
			for at := range want {
				if k := at.id.Key(); (kind == "" || at.id.Kind() == kind) && k > after {
					keys = append(keys, k)
				}
			}
			slices.Sort(keys)
			page, more := s.List(kind, after, limit)
			if more != (len(keys) > limit) || len(page) != min(limit, len(keys)) {
				t.Fatalf("%d of %d, more %v", len(page), len(keys), more)
			}
			for i, in := range page {
				if in.Identity.Key() != keys[i] {
					t.Fatalf("%d: %s, want %s", i, in.Identity, keys[i])
				}
			}
		},
		"": func(t *rapid.T) {
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Sleepers != len(want) || st.Damaged != 0 || st.LiveBytes > st.Bytes {
				t.Fatalf("%+v, want %d", st, len(want))
			}
		},
	})
	for at := range want {
		taken(t, at)
	}
	if err := errors.Join(s.check(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s.bytes.Load() != 0 || s.pages.maps != 0 || s.file != nil && s.file.used.Load() != 0 {
		t.Fatalf("left: %d bytes, %d mappings", s.bytes.Load(), s.pages.maps)
	}
}

// check compares the books with what is there. Nothing else runs.
func (s *Store) check() error {
	var resident, onDisk int64
	for p := range s.parts {
		a := s.parts[p].arena
		if len(s.parts[p].freed) > 0 {
			return errors.New("something waits to be freed")
		}
		if a == nil {
			continue
		}
		count := make(map[*chunk]int)
		live := make(map[*chunk]int)
		resident += int64(len(a.index.mem))
		n := 0
		for i := range a.index.slots {
			w := a.index.at(i)
			if w == 0 {
				continue
			}
			n++
			for j := a.index.home(w); j != i; j = a.index.next(j) {
				if a.index.at(j) == 0 {
					return fmt.Errorf("partition %d: slot %d is not reached", p, i)
				}
			}
			c := a.chunkOf(w)
			rec, err := c.mem, error(nil)
			if c.spilled {
				if rec, err = s.file.read(c.ext, 0, c.fill); err != nil {
					return err
				}
			}
			h, key, err := parseHead(rec[offsetOf(w):c.fill])
			if err != nil {
				return err
			}
			if s.hash(key)>>tagShift != tagOf(w) {
				return errors.New("a tag is not that of its key")
			}
			count[c]++
			live[c] += h.len()
		}
		if n != a.index.count || n == 0 || n > a.index.slots*3/4 || a.index.slots > 64 && n*8 < a.index.slots {
			return fmt.Errorf("an index of %d slots counts %d for %d", a.index.slots, a.index.count, n)
		}
		for id, c := range a.chunks {
			if c == nil {
				continue
			}
			switch {
			case int(c.id) != id || c.count != count[c] || c.live != live[c] || c.stuck || c.writing || c.dead || c.taken:
				return fmt.Errorf("%+v has %d records, %d bytes", *c, count[c], live[c])
			case c.count == 0 && c != a.active:
				return errors.New("an empty chunk")
			case c.spilled:
				onDisk += c.ext.bytes()
			case !c.solo && c != a.active && c.mostlyGarbage() && !slices.Contains(a.due, c):
				return fmt.Errorf("a chunk of %d with %d live", c.fill, c.live)
			}
			resident += int64(c.bytes)
		}
	}
	if r := s.bytes.Load(); r != resident {
		return fmt.Errorf("%d bytes are said to be resident, %d are", r, resident)
	}
	if s.file != nil && s.file.used.Load() != onDisk {
		return fmt.Errorf("%d bytes of the file are said to be used, %d are", s.file.used.Load(), onDisk)
	}
	return nil
}

func TestBuddy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const order = 6
		b := newBuddy(order)
		var taken [1 << order]bool
		type run struct{ unit, order int }
		var runs []run
		t.Repeat(map[string]func(*rapid.T){
			"alloc": func(t *rapid.T) {
				k := rapid.IntRange(0, order).Draw(t, "order")
				if !b.fits(k) {
					for at := 0; at < 1<<order; at += 1 << k { // indeed not
						if !slices.Contains(taken[at:at+1<<k], true) {
							t.Fatalf("%d units at %d are free", 1<<k, at)
						}
					}
					return
				}
				r := run{b.alloc(k), k}
				for i := r.unit; i < r.unit+1<<k; i++ {
					if taken[i] {
						t.Fatal("given twice")
					}
					taken[i] = true
				}
				runs = append(runs, r)
			},
			"free": func(t *rapid.T) {
				if len(runs) == 0 {
					return
				}
				i := rapid.IntRange(0, len(runs)-1).Draw(t, "i")
				r := runs[i]
				runs = slices.Delete(runs, i, i+1)
				b.free(r.unit, r.order)
				clear(taken[r.unit : r.unit+1<<r.order])
				if b.empty() != (len(runs) == 0) {
					t.Fatal("empty")
				}
			},
		})
	})
}
