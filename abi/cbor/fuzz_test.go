package cbor

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
)

// Inputs that each start a fuzzer somewhere else.
var jsonSeeds = []string{
	`{"id":"7","items":[{"sku":"a","by":1,"price":1.5},{"sku":"b","by":-2e0}],"note":null,"blob":"AQID","extra":[{}]}`,
	`[0,-0,1.0,1e3,-1.5e-7,18446744073709551615,-9223372036854775808,1e20,9007199254740993.5,9223372036854775808.5]`,
	`"\u0000\ud83d\ude00\n\"日本"`, `"\ud83d"`, `{"a":1,"a":2}`, `[[[[]]]]`, `1e999`, `18446744073709551616`, ``, ` `, "\"\xff\"",
	`{"0":1,"` + strings.Repeat("k", 30) + `":[` + strings.Repeat("0,", 30) + `0]}`,
}

func schemaBytes(s *abi.Schema) []byte { return abi.AppendSchema(nil, s) }

func FuzzFromJSON(f *testing.F) {
	for _, js := range jsonSeeds {
		f.Add([]byte(js), schemaBytes(nil))
		f.Add([]byte(js), schemaBytes(order))
	}
	f.Add([]byte(`[1,null]`), schemaBytes(list(nullable(typ(abi.TypeFloat)))))
	f.Add([]byte(`{"a":"AQ=="}`), schemaBytes(mapOf(typ(abi.TypeBytes))))
	f.Fuzz(func(t *testing.T, js, schema []byte) {
		r := abi.NewReader(schema)
		s := r.Schema()
		if r.Err() != nil {
			s = nil
		}
		cb, err := FromJSON(js, s)
		if err != nil {
			if s == nil && json.Valid(js) && !stricter(err) {
				t.Fatalf("%q is JSON, but: %v", js, err)
			}
			return
		}
		if !json.Valid(js) {
			t.Fatalf("%q is no JSON, but became %s", js, Diagnose(cb))
		}
		if err := Wellformed(cb); err != nil {
			t.Fatalf("%q became %x: %v", js, cb, err)
		}
		shown := mustShow(t, cb)
		if s == nil {
			var a, b any
			if json.Unmarshal(js, &a) == nil && (json.Unmarshal(shown, &b) != nil || !reflect.DeepEqual(a, b)) {
				t.Fatalf("%s became %s", js, shown)
			}
		}
		stable(t, shown, s)
	})
}

// stable holds that JSON which we wrote becomes CBOR that stays as it is from then on.
func stable(t *testing.T, shown []byte, s *abi.Schema) {
	t.Helper()
	first, err := FromJSON(shown, s)
	if err != nil {
		t.Fatalf("%s is ours, but: %v", shown, err)
	}
	again := mustShow(t, first)
	second, err := FromJSON(again, s)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%s became %x, then %s became %x, %v", shown, first, again, second, err)
	}
}

func mustShow(t *testing.T, cb []byte) []byte {
	t.Helper()
	shown, err := ToJSON(cb, nil)
	if err != nil {
		t.Fatalf("%x is ours, but: %v", cb, err)
	}
	if !json.Valid(shown) {
		t.Fatalf("%x is shown as %s", cb, shown)
	}
	return shown
}

// stricter reports whether err refuses what encoding/json accepts.
func stricter(err error) bool {
	for _, reason := range []string{"stands twice", "surrogate", "UTF-8", "64 bits", "nested deeper"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}

var cborSeeds = []string{
	"", "00", "3bffffffffffffffff", "a2616101626279f5", "83f93c0040c11a514b67b0", "c249010000000000000000", "9fff", "1c", "61ff", "a1f600",
	"a2616101616102", "a20100613102", "fb43e0000000000000", "fbbff8000000000000", "fa3dcccccd", "d9d9f700", "f8ff", "f818", "9bffffffffffffffff",
	"7bffffffffffffffff", "bb8000000000000000", "c0c0c0c0c061", "a1001a00010000", "f97e00", "fb8000000000000000", "818181818180", "5903e8",
}

func FuzzToJSON(f *testing.F) {
	for _, s := range cborSeeds {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, cb []byte) {
		shown, err := ToJSON(cb, nil)
		if err != nil {
			return
		}
		if !json.Valid(shown) {
			t.Fatalf("%x is shown as %s", cb, shown)
		}
		if err := Wellformed(cb); err != nil && len(cb) > 0 {
			t.Fatalf("shown as %s, but: %v", shown, err)
		}
		if _, err := FromJSON(shown, nil); err != nil {
			if !strings.Contains(err.Error(), "does not fit an integer of 64 bits") { // which CBOR can hold
				t.Fatalf("%s is ours, but: %v", shown, err)
			}
			return
		}
		stable(t, shown, nil)
	})
}

func FuzzWellformed(f *testing.F) {
	for _, s := range cborSeeds {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, cb []byte) {
		if len(cb) > abi.DefaultMaxMessage {
			return // longer ones may have more items than the mode for Go values takes
		}
		Diagnose(cb)
		ours := Wellformed(cb)
		r := abi.NewReader(cb)
		item := r.Item()
		if (ours == nil) != (r.Err() == nil && len(item) == len(cb) && len(cb) > 0) {
			t.Fatalf("well-formed: %v, reader: %v after %x", ours, r.Err(), item)
		}
		theirs := decMode.Wellformed(cb)
		switch {
		case ours == nil && theirs != nil:
			// Bignums are well-formed; the mode for Go values refuses them all the same.
			if !strings.Contains(theirs.Error(), "bignum") {
				t.Fatalf("%x is well-formed, but: %v", cb, theirs)
			}
		case ours != nil && theirs == nil:
			// fxamacker looks at text when it decodes it, and does not count the first of several tags.
			if reason := ours.Error(); !strings.Contains(reason, "UTF-8") && !strings.Contains(reason, "nested deeper") {
				t.Fatalf("%x is well-formed, but: %v", cb, ours)
			}
		}
		var v any
		if err := Unmarshal(cb, &v); err == nil && ours != nil {
			t.Fatalf("%x was read as %v, but: %v", cb, v, ours)
		}
	})
}
