package cbor

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestToJSON(t *testing.T) {
	for _, c := range []struct{ name, cb, want string }{
		{"nothing", "", `null`},
		{"0", "00", `0`},
		{"uint64 max", "1bffffffffffffffff", `18446744073709551615`},
		{"-1", "20", `-1`},
		{"int64 min", "3b7fffffffffffffff", `-9223372036854775808`},
		{"beyond int64", "3b8000000000000000", `-9223372036854775809`},
		{"smallest", "3bffffffffffffffff", `-18446744073709551616`},
		{"beyond a float's integers", "1b0020000000000001", `9007199254740993`},
		{"wide forms", "841800190000" + "1a00000000" + "1b0000000000000000", `[0,0,0,0]`},
		{"bytes", "45010203ffef", `"AQID_-8"`},
		{"no bytes", "40", `""`},
		{"text", "6161", `"a"`},
		{"escapes", "71" + "225c2f080c0a0d09001f7f3c263ec3a978", `"\"\\/\u0008\u000c\n\r\t\u0000\u001f` + "\x7f" + `<&>éx"`},
		{"long text", "782a" + strings.Repeat("78", 42), `"` + strings.Repeat("x", 42) + `"`},
		{"array", "8201820203", `[1,[2,3]]`},
		{"map", "a2616101616280", `{"a":1,"b":[]}`},
		{"empty", "82a080", `[{},[]]`},
		{"integer keys", "a3000120021863f5", `{"0":1,"-1":2,"99":true}`},
		{"huge integer keys", "a21bffffffffffffffff003bffffffffffffffff00", `{"18446744073709551615":0,"-18446744073709551616":0}`},
		{"simple", "84f4f5f6f7", `[false,true,null,null]`},
		{"half", "83f93c00f90001f9c400", `[1,5.9604645e-8,-4]`},
		{"single", "82fa3dcccccdfa7f7fffff", `[0.1,3.4028235e+38]`},
		{"double", "83fb3fb999999999999afb4000000000000000fb8000000000000000", `[0.1,2,-0]`},
		{"large double", "82fb43e0000000000000fbc415af1d78b58c40", `[9.223372036854776e+18,-1e+20]`},
		{"below the exponent", "fb43dfffffffffffff", `9223372036854774784`},
		{"small double", "fb3e7ad7f29abcaf48", `1e-7`},
		{"time as text", "c074323031332d30332d32315432303a30343a30305a", `"2013-03-21T20:04:00Z"`},
		{"time as a number", "83c11a514b67b0c1fb41d452d9ec200000c120", `[1363896240,1363896240.5,-1]`},
		{"bignum", "c249010000000000000000", `18446744073709551616`},
		{"negative bignum", "c349010000000000000000", `-18446744073709551617`},
		{"empty bignums", "82c240c340", `[0,-1]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ToJSON(unhex(t, c.cb), nil)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestToJSONRefuses(t *testing.T) {
	for _, c := range []struct{ name, cb, want string }{
		{"NaN", "a1617881f97e00", "$.x[0], byte 4: the float NaN is no number of JSON"},
		{"infinity", "fa7f800000", "$, byte 0: the float +Inf is no number of JSON"},
		{"negative infinity", "c1fbfff0000000000000", "$, byte 1: the float -Inf is no number of JSON"},
		{"simple value", "81f8ff", "$[0], byte 1: the simple value 255"},
		{"small simple value", "e5", "$, byte 0: the simple value 5"},
		{"reserved simple value", "f818", "$, byte 0: the simple value 24"},
		{"indefinite array", "9fff", "$, byte 0: indefinite lengths are not accepted"},
		{"indefinite text", "7f6161ff", "$, byte 0: indefinite lengths are not accepted"},
		{"break", "ff", "$, byte 0: indefinite lengths are not accepted"},
		{"reserved length", "1c", "$, byte 0: a reserved length"},
		{"cut short in a head", "19ff", "$, byte 0: the input ends inside an item's head"},
		{"cut short in an array", "820182", "$[1], byte 2: an array of 2 items is longer than the input"},
		{"cut short in a map", "a16161", "$.a, byte 3: the input ends where an item should start"},
		{"long array", "9bffffffffffffffff", "$, byte 0: an array of 18446744073709551615 items is longer than the input"},
		{"long map", "bb8000000000000000", "$, byte 0: a map of 9223372036854775808 pairs is longer than the input"},
		{"long text", "7bffffffffffffffff", "$, byte 0: a length of 18446744073709551615 is longer than the input"},
		{"long key", "a17bffffffffffffffff", "$, byte 1: a length of 18446744073709551615 is longer than the input"},
		{"long bytes", "5bffffffffffffffff", "$, byte 0: a length of 18446744073709551615 is longer than the input"},
		{"utf-8", "61ff", "$, byte 0: text is not UTF-8"},
		{"utf-8 in a key", "a161ff00", "$, byte 1: text is not UTF-8"},
		{"key of bytes", "a14100f6", "$, byte 1: a map key that is neither text nor an integer"},
		{"key of null", "a1f600", "$, byte 1: a map key that is neither text nor an integer"},
		{"duplicate key", "a2616101616102", "$.a, byte 4: the key stands twice"},
		{"keys that read the same", "a20100613102", `$["1"], byte 3: the key stands twice`},
		{"same integer in two widths", "a20100180102", `$["1"], byte 3: the key stands twice`},
		{"tag", "81d82000", "$[0], byte 1: the tag 32"},
		{"tag 0 of a number", "c000", "$, byte 0: tag 0, a time, without text"},
		{"tag 1 of text", "c16161", "$, byte 0: tag 1, a time, without a number"},
		{"tag 1 of null", "c1f6", "$, byte 0: tag 1, a time, without a number"},
		{"bignum of a number", "c200", "$, byte 0: a bignum without bytes"},
		{"bignum cut short", "c24201", "$, byte 1: a length of 2 is longer than the input"},
		{"huge bignum", "c2590401" + strings.Repeat("ff", 1025), "$, byte 0: a bignum of more than 1024 bytes"},
		{"tag in a tag", "c0c0", "$, byte 0: tag 0, a time, without text"},
		{"tag of nothing", "c0", "$, byte 1: the input ends where an item should start"},
		{"two items", "0000", "$, byte 1: 1 bytes follow the end of the item"},
		{"depth", strings.Repeat("81", 64) + "80", "$" + strings.Repeat("[0]", 64) + ", byte 64: nested deeper than 64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ToJSON(unhex(t, c.cb), nil)
			if err == nil {
				t.Fatalf("shown as %s", got)
			}
			if got := strings.TrimPrefix(err.Error(), "CBOR without a JSON form at "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || abi.CodeOf(err) != abi.ErrUnsupported {
				t.Errorf("%T of code %v", err, abi.CodeOf(err))
			}
		})
	}
}

// The same depth is accepted both ways, and by Wellformed.
func TestDepth(t *testing.T) {
	for _, brackets := range []string{"[]", "{}"} {
		in, out, open := "[", "]", byte(0x81)
		if brackets == "{}" {
			in, out, open = `{"":`, "}", 0xa1
		}
		for depth, ok := range map[int]bool{64: true, 65: false} {
			js := []byte(strings.Repeat(in, depth) + "0" + strings.Repeat(out, depth))
			var cb []byte
			for range depth {
				if cb = append(cb, open); open == 0xa1 {
					cb = append(cb, 0x60)
				}
			}
			cb = append(cb, 0)
			got, err := FromJSON(js, nil)
			if (err == nil) != ok || ok && string(got) != string(cb) {
				t.Errorf("%d of %s from JSON: %v", depth, brackets, err)
			}
			back, err := ToJSON(cb, nil)
			if (err == nil) != ok || ok && string(back) != string(js) {
				t.Errorf("%d of %s to JSON: %v", depth, brackets, err)
			}
			if err := Wellformed(cb); (err == nil) != ok {
				t.Errorf("%d of %s well-formed: %v", depth, brackets, err)
			}
		}
	}
}

func TestManyNames(t *testing.T) {
	// More names than nameSet keeps without a map, with the duplicate at each place.
	const n = 40
	for twice := range n {
		var js strings.Builder
		for i := range n {
			js.WriteString(`,"k` + hex.EncodeToString([]byte{byte(i)}) + `":0`)
		}
		good := "{" + js.String()[1:] + "}"
		if _, err := FromJSON([]byte(good), nil); err != nil {
			t.Fatal(err)
		}
		bad := good[:len(good)-1] + `,"k` + hex.EncodeToString([]byte{byte(twice)}) + `":0}`
		var syntax *SyntaxError
		if _, err := FromJSON([]byte(bad), nil); !errors.As(err, &syntax) || syntax.Offset != len(good) {
			t.Fatalf("the name %d twice: %v", twice, err)
		}
	}
}

func TestAppendKeepsTheBuffer(t *testing.T) {
	buf := append(make([]byte, 0, 64), "before"...)
	if got, err := AppendFromJSON(buf, []byte(`[1,2`), nil); err == nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := AppendToJSON(buf, []byte{0x82, 0}, nil); err == nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
	long := []byte("[" + strings.Repeat("0,", 99) + "0]")
	got, err := AppendFromJSON(buf, long, nil)
	if err != nil || string(got[:9]) != "before\x98\x64\x00" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = AppendToJSON(buf, got[6:], nil); err != nil || string(got) != "before"+string(long) {
		t.Errorf("%q, %v", got, err)
	}
}
