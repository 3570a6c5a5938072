package cbor

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

func TestMarshal(t *testing.T) {
	type sample struct {
		Name string            `json:"name"`
		Tags []string          `json:"tags"`
		Map  map[string]int    `json:"map"`
		At   time.Time         `json:"at"`
		Rate float64           `json:"rate"`
		None *int              `json:"none"`
		Skip string            `json:"-"`
		Opt  string            `json:"opt,omitempty"`
		Raw  []byte            `json:"raw"`
		Any  map[string]string `cbor:"renamed"`
	}
	in := sample{Name: "n", At: time.Date(2024, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)), Rate: 1, Any: map[string]string{"b": "", "a": ""}}
	cb, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"at": "2024-01-02T02:04:05.000000006Z", "map": {}, "raw": h'', "name": "n", "none": null, "rate": 1.0, "tags": [], "renamed": {"a": "", "b": ""}}`
	if got := Diagnose(cb); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var out sample
	if err := Unmarshal(cb, &out); err != nil {
		t.Fatal(err)
	}
	if !out.At.Equal(in.At) || out.Name != "n" || out.Rate != 1 {
		t.Errorf("read back as %+v", out)
	}
	if _, err := Marshal(new(big.Int).Lsh(big.NewInt(1), 100)); err == nil {
		t.Error("a bignum was encoded")
	}
}

func TestUnmarshalIsHardened(t *testing.T) {
	for _, c := range []struct{ name, cb, want string }{
		{"indefinite", "9fff", "indefinite"},
		{"duplicate key", "a2616101616102", "duplicate"},
		{"duplicate key in a nested map", "81a201000100", "duplicate"},
		{"utf-8", "61ff", "UTF-8"},
		{"depth", strings.Repeat("81", 65) + "00", "nested deeper than 64"},
		{"two items", "0000", "follow the end"},
		{"nothing", "", "the input ends"},
		{"long array", "9b7fffffffffffffff", "longer than the input"},
		{"bignum", "c24101", "bignum"},
		{"integer beyond int64", "1bffffffffffffffff", "overflow"},
		{"negative integer beyond int64", "3bffffffffffffffff", "overflow"},
		{"key of bytes", "a1410000", "key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v any
			err := Unmarshal(unhex(t, c.cb), &v)
			if err == nil {
				t.Fatalf("read as %v", v)
			}
			if !strings.Contains(err.Error(), c.want) || abi.CodeOf(err) != abi.ErrInvalidArgument {
				t.Errorf("%v, of code %v", err, abi.CodeOf(err))
			}
		})
	}
	var v any
	if err := Unmarshal(unhex(t, "820120"), &v); err != nil {
		t.Fatal(err)
	}
	if got := v.([]any); got[0] != int64(1) || got[1] != int64(-1) {
		t.Errorf("integers read as %T and %T", got[0], got[1])
	}
	var u uint64
	if err := Unmarshal(unhex(t, "1bffffffffffffffff"), &u); err != nil || u != 1<<64-1 {
		t.Errorf("%d, %v", u, err)
	}
	var s struct{ By int }
	if err := Unmarshal(unhex(t, "a262427901627879f6"), &s); err != nil || s.By != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := Unmarshal(unhex(t, "a162427963616263"), &s); err == nil || !strings.Contains(err.Error(), "By") {
		t.Errorf("text read as an int: %v", err)
	}
}

func TestDiagnose(t *testing.T) {
	for _, c := range []struct{ cb, want string }{
		{"a2616101626279f5", `{"a": 1, "by": true}`},
		{"83f93c0040c11a514b67b0", "[1.0, h'', 1(1363896240)]"},
		{"", "malformed at byte 0, the input ends where an item should start: h''"},
		{"8201", "malformed at byte 0, a count is longer than the input: h'8201'"},
		{"61ff", "malformed at byte 0, text is not UTF-8: h'61ff'"},
		{"5864" + strings.Repeat("00", 99), "malformed at byte 2, a length of 100 is longer than the input: h'5864" + strings.Repeat("00", 30) + "'…"},
		{"c200", ""},
		{"594001" + strings.Repeat("00", 0x4001), "16388 bytes: h'594001" + strings.Repeat("00", 29) + "'…"},
	} {
		got := Diagnose(unhex(t, c.cb))
		if c.want == "" {
			if !strings.HasPrefix(got, "not shown, ") || !strings.HasSuffix(got, ": h'"+c.cb+"'") {
				t.Errorf("%s is shown as %s", c.cb, got)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%.40s\ngot  %s\nwant %s", c.cb, got, c.want)
		}
	}
}
