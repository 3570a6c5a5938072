package abi

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestA1_1_AnIdentityHoldsKindAndIdentity(t *testing.T) {
	id, err := NewIdentity("counter", "a/b")
	if err != nil || id.Kind() != "counter" || id.ID() != "a/b" || id.IsZero() {
		t.Errorf("%q, %q, zero: %v, %v", id.Kind(), id.ID(), id.IsZero(), err)
	}
	if id, err := ParseIdentity("counter/a/b"); err != nil || id.Kind() != "counter" || id.ID() != "a/b" {
		t.Errorf("split at another slash than the first: %q, %q, %v", id.Kind(), id.ID(), err)
	}
	var none Identity
	if !none.IsZero() || none.String() != "" {
		t.Errorf("no actor reads %q", none)
	}
}

func TestA1_2_TheKeyIsTheSameForTheSameInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind, id := drawKind(t), drawID(t)
		a, err := NewIdentity(kind, id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewIdentity(strings.Clone(kind), strings.Clone(id))
		if err != nil {
			t.Fatal(err)
		}
		if want := kind + "/" + id; a.Key() != want || b.Key() != want || a.String() != want {
			t.Fatalf("keys %q and %q", a.Key(), b.Key())
		}
		if c, err := ParseIdentity(a.Key()); err != nil || c != a {
			t.Fatalf("%q reads back as %v, %v", a.Key(), c, err)
		}
	})
}

func TestA1_3_AnEmptyPartIsAnError(t *testing.T) {
	for _, c := range []struct {
		kind, id string
		want     error
	}{
		{"", "a", ErrEmptyKind},
		{"", "", ErrEmptyKind},
		{"counter", "", ErrEmptyIdentity},
		{"Counter", "a", ErrInvalidKind},
		{"1counter", "a", ErrInvalidKind},
		{"-", "a", ErrInvalidKind},
		{"a.b", "a", ErrInvalidKind},
		{"a/b", "a", ErrInvalidKind},
		{"é", "a", ErrInvalidKind},
		{strings.Repeat("k", 64), "a", ErrInvalidKind},
		{"counter", strings.Repeat("i", 256), ErrInvalidIdentity},
		{"counter", "a\x00", ErrInvalidIdentity},
		{"counter", "a\x1f", ErrInvalidIdentity},
		{"counter", "\x7f", ErrInvalidIdentity},
		{"counter", "é\n", ErrInvalidIdentity},
		{"counter", "\u0080", ErrInvalidIdentity},
		{"counter", "\u009f", ErrInvalidIdentity},
		{"counter", "a\xff", ErrInvalidIdentity},
		{"counter", "\xed\xa0\x80", ErrInvalidIdentity},
	} {
		id, err := NewIdentity(c.kind, c.id)
		var typed *IdentityError
		if !errors.Is(err, c.want) || !errors.As(err, &typed) || !id.IsZero() {
			t.Errorf("%q, %q: %v, %v; want %v", c.kind, c.id, id, err, c.want)
		}
		if CodeOf(err) != ErrInvalidArgument {
			t.Errorf("%v is %v", err, CodeOf(err))
		}
	}
	if _, err := ParseIdentity("counter"); !errors.Is(err, ErrNoSlash) {
		t.Errorf("a key without a slash: %v", err)
	}
	for kind, want := range map[string]error{"": ErrEmptyKind, "A": ErrInvalidKind, "a": nil} {
		if err := CheckKind(kind); !errors.Is(err, want) {
			t.Errorf("kind %q: %v", kind, err)
		}
	}
	for _, id := range []string{strings.Repeat("i", 255), "\u00a0", "/", " ", "a\u2028b", "😀"} {
		if _, err := NewIdentity(strings.Repeat("k", 63), id); err != nil {
			t.Error(err)
		}
	}
}

func TestA1_4_EqualityIsKindAndIdentity(t *testing.T) {
	at := map[Identity]string{}
	for _, key := range []string{"a/b", "a/c", "b/b", "a/b/c", "a-b/c"} {
		id, err := ParseIdentity(key)
		if err != nil {
			t.Fatal(err)
		}
		at[id] = key
	}
	if len(at) != 5 {
		t.Errorf("%d entries: %v", len(at), slices.Collect(maps.Values(at)))
	}
	for id, key := range at {
		again, err := NewIdentity(id.Kind(), id.ID())
		if err != nil || again != id || at[again] != key {
			t.Errorf("%v is not found again", id)
		}
	}
}

func TestIdentityErrorsAreOneLine(t *testing.T) {
	_, err := ParseIdentity("\x1b[31m\n\"" + strings.Repeat("é", 4000))
	if got := err.Error(); len(got) > 400 || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := quote("a\"b\\\xff\n"); got != `"a\"b\\\xff\x0a"` {
		t.Errorf("quoted as %s", got)
	}
}

func TestEpochOrder(t *testing.T) {
	inOrder := []Epoch{{}, {0, 1}, {0, 1 << 63}, {1, 0}, {1, 5}, {1 << 31, 0}}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if a.Less(b) != (i < j) {
				t.Errorf("%v older than %v: %v", a, b, a.Less(b))
			}
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, key := range []string{"counter/a", "a/b/c", "", "/", "a/", "/b", "A/b", "a/\x00", "a/é", "a/\xff", "a/\u0085"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		id, err := ParseIdentity(key)
		if err != nil {
			if !id.IsZero() || CodeOf(err) != ErrInvalidArgument || len(err.Error()) > 500 {
				t.Fatalf("%v, %v", id, err)
			}
			return
		}
		if id.Key() != key || id.IsZero() {
			t.Fatalf("%q became %q", key, id.Key())
		}
		if again, err := NewIdentity(id.Kind(), id.ID()); err != nil || again != id {
			t.Fatalf("%v, %v", again, err)
		}
		b := appendIdentity(nil, id)
		r := NewReader(b)
		if got := r.identity(); got != id || r.Err() != nil || r.Len() != 0 {
			t.Fatalf("travels as %v, %v", got, r.Err())
		}
	})
}
