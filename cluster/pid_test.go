package cluster

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

func TestA1_1_IdentityHoldsKindAndIdentity(t *testing.T) {
	i, err := NewIdentity("user", "echo")
	if err != nil || i.Kind() != "user" || i.ID() != "echo" {
		t.Errorf("%v, %v", i, err)
	}
}

func TestA1_2_KeyIsKindSlashIdentity(t *testing.T) {
	for range 3 {
		if got := must(NewIdentity("user", "a/b c")).Key(); got != "user/a/b c" {
			t.Errorf("key %q", got)
		}
	}
	if i := must(ParseIdentity("user/a/b c")); i.Kind() != "user" || i.ID() != "a/b c" {
		t.Errorf("parsed %v", i)
	}
}

func TestA1_3_EmptyPartsAreErrors(t *testing.T) {
	var ie *IdentityError
	if _, err := NewIdentity("", "x"); !errors.Is(err, ErrEmptyKind) || !errors.As(err, &ie) {
		t.Error(err)
	}
	if _, err := NewIdentity("user", ""); !errors.Is(err, ErrEmptyIdentity) || !errors.Is(err, abi.ErrEmptyIdentity) {
		t.Error(err)
	}
	if _, err := ParseIdentity("user/"); !errors.Is(err, ErrEmptyIdentity) || abi.CodeOf(err) != abi.ErrInvalidArgument {
		t.Error(err)
	}
}

func TestA1_4_IdentitiesAreMapKeys(t *testing.T) {
	a, b, c, d := id("k/a"), id("k/a"), id("k/b"), id("l/a")
	if a != b || a == c || a == d {
		t.Error("equality")
	}
	if m := map[Identity]int{a: 1}; m[b] != 1 || m[c] != 0 {
		t.Error("as a map key")
	}
}

func TestA4_1_PIDAndAddressFormats(t *testing.T) {
	for _, c := range []struct{ authority, kind, id, pid, address string }{
		{"127.0.0.1:7701", "user", "echo", "127.0.0.1:7701::user/echo", "wasilo.tcp://cluster@127.0.0.1:7701/user/echo"},
		{"[::1]:7701", "user", "echo", "[::1]:7701::user/echo", "wasilo.tcp://cluster@[::1]:7701/user/echo"},
		{"[fe80::1%eth0]:1", "k", "x", "[fe80::1%eth0]:1::k/x", "wasilo.tcp://cluster@[fe80::1%25eth0]:1/k/x"},
		{"h:1", "k", "a::b", "h:1::k/a::b", "wasilo.tcp://cluster@h:1/k/a::b"},
		{"h:1", "k", "a/b", "h:1::k/a/b", "wasilo.tcp://cluster@h:1/k/a/b"},
		{"h:1", "k", "ü %?#", "h:1::k/ü %?#", "wasilo.tcp://cluster@h:1/k/%C3%BC%20%25%3F%23"},
		{"h:1", "k", "[x]", "h:1::k/[x]", "wasilo.tcp://cluster@h:1/k/%5Bx%5D"},
	} {
		p, err := NewPID(c.authority, must(NewIdentity(c.kind, c.id)))
		if err != nil || p.String() != c.pid || p.Address() != c.address {
			t.Errorf("%q, %q, %v; want %q, %q", p, p.Address(), err, c.pid, c.address)
		}
		if q, err := ParsePID(c.pid); q != p || err != nil {
			t.Errorf("ParsePID(%q) = %v, %v", c.pid, q, err)
		}
		if q, err := ParseAddress(c.address); q != p || err != nil {
			t.Errorf("ParseAddress(%q) = %v, %v", c.address, q, err)
		}
	}
	if z := (PID{}); z.String() != "" || z.Address() != "" || !z.IsZero() {
		t.Error("the zero PID says something")
	}
}

func TestA4_1_MalformedPIDsAreRefused(t *testing.T) {
	refused := func(what, in string, err error) {
		t.Helper()
		var pe *PIDError
		if !errors.Is(err, ErrMalformedPID) || !errors.As(err, &pe) || abi.CodeOf(err) != abi.ErrInvalidArgument {
			t.Errorf("%s(%q): %v", what, in, err)
		}
	}
	for _, s := range []string{"", "::", "h:1", "h:1:k/x", "h:1::", "h:1::k", "h:1::k/", "h:1::/x", "::k/x", "h::k/x", "h:99999::k/x",
		"h:1::K/x", "::1:7701::k/x", "[::1]::k/x", "[::1:7701::k/x", "[::1", "[::1]:7701:k/x", "[:::1]:7701::k/x", "h:1::k/\x00",
		"h:1::k/" + strings.Repeat("x", 256), "a b:1::k/x"} {
		_, err := ParsePID(s)
		refused("ParsePID", s, err)
	}
	for _, s := range []string{"", "wasilo.tcp://cluster@h:1/k", "wasilo.tcp://cluster@h:1", "wasilo.tcp://cluster@/k/x",
		"wasilo.tcp://other@h:1/k/x", "http://h:1/k/x", "wasilo.tcp://cluster@h:1/k/%", "wasilo.tcp://cluster@h:1/k/%1",
		"wasilo.tcp://cluster@h:1/k/%zz", "wasilo.tcp://cluster@h:1/k/", "wasilo.tcp://cluster@h:1/K/x",
		"wasilo.tcp://cluster@h:1/k/%00", "wasilo.tcp://cluster@h%zz:1/k/x"} {
		_, err := ParseAddress(s)
		refused("ParseAddress", s, err)
	}
	_, err := NewPID("h", id("k/x"))
	refused("NewPID", "h", err)
	_, err = NewPID("h:1", Identity{})
	refused("NewPID", "no identity", err)
	if long := (&PIDError{Input: strings.Repeat("x", 1000), Reason: errNoSeparator}).Error(); len(long) > 300 {
		t.Error("the error repeats all of a long input")
	}
}

func TestPIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i, err := NewIdentity(rapid.StringMatching(`[a-z][a-z0-9_-]{0,8}`).Draw(t, "kind"), rapid.String().Draw(t, "id"))
		if err != nil {
			t.Skip("no identity")
		}
		p := must(NewPID(rapid.SampledFrom([]string{"h:1", "127.0.0.1:7701", "[::1]:7701", "[fe80::1%a-b]:2"}).Draw(t, "authority"), i))
		if q, err := ParsePID(p.String()); q != p || err != nil {
			t.Fatalf("ParsePID(%q) = %v, %v", p.String(), q, err)
		}
		a := p.Address()
		if q, err := ParseAddress(a); q != p || err != nil {
			t.Fatalf("ParseAddress(%q) = %v, %v", a, q, err)
		}
		for i := range len(a) {
			if a[i] <= ' ' || a[i] >= 0x7f {
				t.Fatalf("%q is no URI", a)
			}
		}
	})
}

func FuzzPID(f *testing.F) {
	for _, s := range []string{"127.0.0.1:7701::user/echo", "[::1]:7701::a/b::c", "wasilo.tcp://cluster@h:1/k/%20", "[", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePID(s); err == nil && p.String() != s {
			t.Errorf("ParsePID(%q) is %q", s, p)
		}
		if p, err := ParseAddress(s); err == nil {
			if q, err := ParseAddress(p.Address()); q != p || err != nil {
				t.Errorf("%q: %v, %v after a round trip", s, q, err)
			}
		}
	})
}
