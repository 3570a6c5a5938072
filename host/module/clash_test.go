package module

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSettle(t *testing.T) {
	for _, tc := range []struct {
		name   string
		claims string // FILE:SERVES>WANTS, commas within
		want   string // FILE:KIND<OTHER
	}{
		{"no clash", "a:>x b:>y c:z>", ""},
		{"both new: the first by name", "a:>x b:>x", "b:x<a"},
		{"three new", "a:>x b:>x c:>x", "b:x<a c:x<a"},
		{"a serving file keeps its kind", "a:>x b:x>", "a:x<b"},
		{"a changed file keeps what it served", "a:>x b:x>x,y", "a:x<b"},
		{"a changed file may give a kind away", "a:>x b:x>y", ""},
		{"two files swap kinds", "a:x>y b:y>x", ""},
		{"a file fails as a whole", "a:>x,y b:x>", "a:x<b"},
		{"what a refused file falls back to refuses another", "a:x>y b:y> c:>x", "a:y<b c:x<a"},
		{"who is refused anyway refuses nobody", "a:>x,y b:>x c:y>", "a:y<c"},
		{"a chain", "a:x>y b:y>z c:z>x d:z2>", ""},
		{"a broken chain", "a:x>y b:y>z c:z>x,w d:w>", "b:z<c a:y<b c:w<d"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims := parseClaims(tc.claims)
			for range 20 { // the order of the claims is no matter
				var got []string
				for file, e := range settle(claims) {
					if e.File != file {
						t.Errorf("%s is refused as %s", file, e.File)
					}
					got = append(got, file+":"+e.Kind+"<"+e.Other)
				}
				slices.Sort(got)
				want := strings.Fields(tc.want)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("refused %v, want %v", got, want)
				}
				rand.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
			}
		})
	}
}

func parseClaims(s string) (claims []claim) {
	list := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	for _, f := range strings.Fields(s) {
		file, kinds, _ := strings.Cut(f, ":")
		serves, wants, _ := strings.Cut(kinds, ">")
		claims = append(claims, claim{file: file, serves: list(serves), wants: list(wants)})
	}
	return claims
}

// TestSettleLeavesNoClash for any claims, and refuses only files with something new.
func TestSettleLeavesNoClash(t *testing.T) {
	kinds := []string{"k1", "k2", "k3", "k4", "k5"}
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		free := slices.Clone(kinds)
		var claims []claim
		for _, file := range []string{"a", "b", "c", "d"} {
			c := claim{file: file}
			for range rnd.IntN(3) {
				if len(free) > 0 {
					i := rnd.IntN(len(free))
					c.serves, free = append(c.serves, free[i]), slices.Delete(free, i, i+1)
				}
			}
			for _, k := range kinds {
				if rnd.IntN(3) == 0 {
					c.wants = append(c.wants, k)
				}
			}
			claims = append(claims, c)
		}
		refused := settle(claims)
		owner := make(map[string]string)
		for _, c := range claims {
			if refused[c.file] != nil && len(c.wants) == 0 {
				t.Fatalf("seed %d: %s has nothing new and is refused", seed, c.file)
			}
			for _, k := range c.kinds(refused) {
				if o, ok := owner[k]; ok {
					t.Fatalf("seed %d: %s and %s both serve %s: %+v", seed, o, c.file, k, claims)
				}
				owner[k] = c.file
			}
		}
	}
}

func TestClashAtTheFirstLoad(t *testing.T) {
	h := open(t, map[string]string{
		"b.wasm": "module counter bank end",
		"a.wasm": "module counter end",
		"c.wasm": "module chat end",
	}, unwatchedConfig) // what nobody follows may be looked into
	if h.names() != "chat counter" {
		t.Errorf("kinds %s: a file serves all of its kinds or none", h.names())
	}
	if k, _ := h.Kind("counter"); k.File != h.file("a.wasm") {
		t.Errorf("counter is served by %s", k.File)
	}
	contains(t, h.status("b.wasm").Error, "a.wasm", "b.wasm", `"counter"`, "another name")
	var clash *ClashError
	if !errors.As(h.files["b.wasm"].err, &clash) || clash.File != "b.wasm" || clash.Other != "a.wasm" || clash.Kind != "counter" {
		t.Errorf("the error is %#v", clash)
	}
	for _, p := range h.loader.made {
		if refused := len(p.desc.Kinds) == 2; (p.closed.Load() == 1) != refused {
			t.Errorf("the program of %s was closed %d times", p.desc.Kinds[0].Name, p.closed.Load())
		}
	}
}

func TestClashLater(t *testing.T) {
	eachWay(t, map[string]string{"m.wasm": "module counter end"}, func(t *testing.T, h *house) {
		serves := h.program("counter")
		h.write("a.wasm", "module counter extra end") // first by name, but the other serves
		h.untilState("a.wasm", StateFailed)
		if h.program("counter") != serves {
			t.Fatal("the file that serves lost its kind")
		}
		h.write("z.wasm", "module last end")
		h.untilKinds("counter last")
		h.write("z.wasm", "module last counter end")
		if st := h.untilState("z.wasm", StateKept); strings.Join(st.Kinds, " ") != "last" {
			t.Errorf("z.wasm serves %v", st.Kinds)
		}

		// The clash ends: the first by name comes in, nobody touched it.
		h.remove("m.wasm")
		h.untilKinds("counter extra last")
		contains(t, h.status("z.wasm").Error, "a.wasm", "z.wasm")
		h.write("a.wasm", "module extra end") // and when it gives the kind up, the next
		h.untilKinds("counter extra last")
		h.untilState("z.wasm", StateLoaded)
		if k, _ := h.Kind("counter"); k.File != h.file("z.wasm") {
			t.Errorf("counter is served by %s", k.File)
		}
	})
}

func TestQuiet(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	q := quiet{wait: 200 * time.Millisecond, due: make(map[string]time.Time)}
	if _, ok := q.next(); ok || q.take(at(1000)) != nil {
		t.Error("nothing was heard, and something is due")
	}
	q.heard("b", at(0))
	q.heard("a", at(40))  // within a quarter of the wait of b: comes along
	q.heard("c", at(100)) // does not
	if next, ok := q.next(); !ok || next != at(200) {
		t.Errorf("next at %v", next)
	}
	if got := q.take(at(199)); got != nil {
		t.Errorf("too early: %v", got)
	}
	if got := q.take(at(200)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("due: %v", got)
	}
	q.heard("c", at(250)) // again: put off
	if got := q.take(at(300)); got != nil || !q.waits("c") || q.waits("a") {
		t.Errorf("put off, but %v", got)
	}
	if got := q.take(at(450)); !slices.Equal(got, []string{"c"}) {
		t.Errorf("due: %v", got)
	}
}
