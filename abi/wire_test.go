package abi

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestNumbers are the examples of RFC 8949, appendix A, that concern numbers.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		hex  string
		want float64
	}{
		{"00", 0}, {"17", 23}, {"1818", 24}, {"1903e8", 1000}, {"1a000f4240", 1e6}, {"1b000000e8d4a51000", 1e12},
		{"1bffffffffffffffff", 18446744073709551615}, {"20", -1}, {"3903e7", -1000}, {"3bffffffffffffffff", -18446744073709551616},
		{"f90000", 0}, {"f93c00", 1}, {"f93e00", 1.5}, {"f97bff", 65504}, {"f90001", 5.960464477539063e-8}, {"f90400", 0.00006103515625},
		{"f9c400", -4}, {"f97c00", math.Inf(1)}, {"f9fc00", math.Inf(-1)}, {"fa47c35000", 100000}, {"fa7f7fffff", 3.4028234663852886e+38},
		{"fb3ff199999999999a", 1.1}, {"fb7e37e43c8800759c", 1e300}, {"fbc010666666666666", -4.1}, {"fa7f800000", math.Inf(1)},
	} {
		r := NewReader(unhex(t, c.hex))
		if got := r.Float(); got != c.want || r.Err() != nil || r.Len() != 0 {
			t.Errorf("%s reads as %v, %v", c.hex, got, r.Err())
		}
	}
	for _, nan := range []string{"f97e00", "f97c01", "fa7fc00000", "fb7ff8000000000000"} {
		r := NewReader(unhex(t, nan))
		if got := r.Float(); !math.IsNaN(got) || r.Err() != nil {
			t.Errorf("%s reads as %v, %v", nan, got, r.Err())
		}
	}
	r := NewReader(unhex(t, "f98000"))
	if got := r.Float(); got != 0 || !math.Signbit(got) {
		t.Errorf("negative zero reads as %v", got)
	}
}

func TestReaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, i, f := rapid.Uint64().Draw(t, "u"), rapid.Int64().Draw(t, "i"), rapid.Float64().Draw(t, "f")
		s, b, yes := rapid.String().Draw(t, "s"), rapid.SliceOf(rapid.Byte()).Draw(t, "b"), rapid.Bool().Draw(t, "yes")
		buf := AppendUint(nil, u)
		buf = AppendFloat(AppendInt(buf, i), f)
		buf = AppendBytes(AppendText(buf, s), b)
		buf = AppendNull(AppendBool(buf, yes))
		buf = AppendText(AppendMap(AppendArray(buf, 1), 1), "k")
		buf = AppendNull(buf)

		r := NewReader(buf)
		if got := r.Uint(); got != u {
			t.Fatal(got)
		}
		if got := r.Int(); got != i {
			t.Fatal(got)
		}
		if got := r.Float(); got != f && !math.IsNaN(f) {
			t.Fatal(got)
		}
		if got := r.Text(); got != s {
			t.Fatal(got)
		}
		if got := r.Bytes(); !bytes.Equal(got, b) || got == nil {
			t.Fatal(got)
		}
		if r.Null() || r.Bool() != yes || !r.Null() {
			t.Fatal("bool or null")
		}
		if r.Array() != 1 || r.Map() != 1 || string(r.TextBytes()) != "k" {
			t.Fatal("array or map")
		}
		if c, ok := r.Peek(); c != 0xf6 || !ok {
			t.Fatal("peek")
		}
		if r.Skip(); r.Len() != 0 || r.Offset() != len(buf) {
			t.Fatal(r.Len())
		}
		if _, ok := r.Peek(); ok {
			t.Fatal("peek at the end")
		}
		if r.End(); r.Err() != nil {
			t.Fatal(r.Err())
		}
		// The same as items.
		r = NewReader(buf)
		var joined []byte
		for r.Len() > 0 && r.Err() == nil {
			joined = append(joined, r.Item()...)
		}
		if !bytes.Equal(joined, buf) {
			t.Fatalf("%x, %v", joined, r.Err())
		}
	})
}

func TestReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		hex    string
		read   func(*Reader)
		offset int
		want   string
	}{
		{"uint of text", "6161", func(r *Reader) { r.Uint() }, 0, "an unsigned integer expected, not text"},
		{"uint of null", "f6", func(r *Reader) { r.Uint() }, 0, "an unsigned integer expected, not null"},
		{"uint32", "1b0000000100000000", func(r *Reader) { r.Uint32() }, 0, "an integer below 2^32 expected"},
		{"int", "1b8000000000000000", func(r *Reader) { r.Int() }, 0, "an integer of 64 bits expected"},
		{"int, negative", "3b8000000000000000", func(r *Reader) { r.Int() }, 0, "an integer of 64 bits expected"},
		{"int of a float", "f93c00", func(r *Reader) { r.Int() }, 0, "an integer expected, not a float"},
		{"int of nothing", "", func(r *Reader) { r.Int() }, 0, "the input ends where an item should start"},
		{"float of a boolean", "f5", func(r *Reader) { r.Float() }, 0, "a number expected, not a boolean"},
		{"float of a simple value", "f8ff", func(r *Reader) { r.Float() }, 0, "a number expected, not a simple value"},
		{"float cut short", "fb00", func(r *Reader) { r.Float() }, 0, "the input ends inside an item's head"},
		{"bool of an array", "80", func(r *Reader) { r.Bool() }, 0, "a boolean expected, not an array"},
		{"bool of nothing", "", func(r *Reader) { r.Bool() }, 0, "the input ends where an item should start"},
		{"text of bytes", "4161", func(r *Reader) { r.Text() }, 0, "text expected, not bytes"},
		{"text cut short", "6261", func(r *Reader) { r.Text() }, 1, "a length of 2 is longer than the input"},
		{"text", "62c328", func(r *Reader) { r.Text() }, 0, "text is not UTF-8"},
		{"bytes of a map", "a0", func(r *Reader) { r.Bytes() }, 0, "bytes expected, not a map"},
		{"bytes, longest", "5bffffffffffffffff", func(r *Reader) { r.Bytes() }, 9, "a length of 18446744073709551615 is longer than the input"},
		{"array of a tag", "c000", func(r *Reader) { r.Array() }, 0, "an array expected, not a tag"},
		{"array, longest", "9bffffffffffffffff", func(r *Reader) { r.Array() }, 9, "an array of 18446744073709551615 items is longer than the input"},
		{"map, longest", "bb8000000000000000", func(r *Reader) { r.Map() }, 9, "a map of 9223372036854775808 pairs is longer than the input"},
		{"map of half a pair", "a100", func(r *Reader) { r.Map() }, 1, "a map of 1 pairs is longer than the input"},
		{"item of nothing", "", func(r *Reader) { r.Item() }, 0, "the input ends where an item should start"},
		{"item, longest map", "bb8000000000000000", func(r *Reader) { r.Item() }, 0, "a count is longer than the input"},
		{"item, longest map of all", "bbffffffffffffffff", func(r *Reader) { r.Item() }, 0, "a count is longer than the input"},
		{"item, tag of nothing", "c1", func(r *Reader) { r.Item() }, 1, "the input ends where an item should start"},
		{"item, break", "ff", func(r *Reader) { r.Item() }, 0, "indefinite lengths are not accepted"},
		{"item, simple value in two bytes", "f814", func(r *Reader) { r.Item() }, 0, "a simple value below 32 in two bytes"},
		{"item, text", "8161ff", func(r *Reader) { r.Item() }, 1, "text is not UTF-8"},
		{"item, 65 arrays", strings.Repeat("81", 64) + "80", func(r *Reader) { r.Item() }, 64, "nested deeper than 64"},
		{"item, 65 maps", strings.Repeat("a100", 64) + "a0", func(r *Reader) { r.Item() }, 128, "nested deeper than 64"},
		{"item, 65 tags", strings.Repeat("c1", 65) + "00", func(r *Reader) { r.Item() }, 64, "nested deeper than 64"},
		{"end", "0000", func(r *Reader) { r.Uint(); r.End() }, 1, "1 bytes follow the end of the item"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(unhex(t, c.hex))
			c.read(&r)
			err, ok := r.Err().(*DecodeError)
			if !ok {
				t.Fatal("accepted")
			}
			if err.Reason != c.want || err.Offset != c.offset {
				t.Errorf("at byte %d: %s\nwant at byte %d: %s", err.Offset, err.Reason, c.offset, c.want)
			}
			// The first failure sticks.
			r.Fail("another")
			if r.Uint() != 0 || r.Int() != 0 || r.Float() != 0 || r.Bytes() != nil || r.Text() != "" || r.Array() != 0 || r.Map() != 0 ||
				r.Bool() || r.Null() || r.Item() != nil || r.Err() != error(err) {
				t.Errorf("read on after %v", err)
			}
		})
	}
}

func TestDeepestItem(t *testing.T) {
	for _, s := range []string{strings.Repeat("81", 64) + "00", strings.Repeat("81", 63) + "80", strings.Repeat("c1", 64) + "00",
		strings.Repeat("a100", 63) + "a0", strings.Repeat("81c1", 32) + "6161"} {
		r := NewReader(unhex(t, s))
		if got := hex.EncodeToString(r.Item()); got != s || r.Err() != nil {
			t.Errorf("%s: %v", s, r.Err())
		}
	}
}

func TestItemsAliasAndEnd(t *testing.T) {
	buf := unhex(t, "820102"+"43010203"+"f6")
	r := NewReader(buf)
	for _, want := range []int{3, 4, 1} {
		item := r.Item()
		if len(item) != want || cap(item) != want {
			t.Errorf("an item of %d bytes, %d with what follows it", len(item), cap(item))
		}
	}
	r = NewReader(buf[3:])
	if b := r.Bytes(); len(b) != 3 || cap(b) != 3 || &b[0] != &buf[4] {
		t.Error("a byte string was copied, or reaches beyond its end")
	}
}

func BenchmarkEvent(b *testing.B) {
	e := &Event{Tag: EventCall, Method: "add", Payload: []byte("\xa1\x62by\x05"), Token: 12345, Remaining: 5e9,
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	buf := make([]byte, 0, e.SizeBound())
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendEvent(buf[:0], e)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		var out Event
		for b.Loop() {
			if err := DecodeEvent(buf, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOutput(b *testing.B) {
	for _, c := range []struct {
		name string
		o    Output
	}{
		{"reply", Output{Kind: OutReply, Payload: []byte("\xa1\x65value\x05")}},
		{"effects", Output{Kind: OutEffects, Effects: []Effect{{Tag: EffectReply, Token: 7, Payload: []byte("\xa0")},
			{Tag: EffectTell, Target: Identity{"chat", "lobby"}, Method: "post", Payload: []byte("\xa0")}}}},
	} {
		buf := AppendOutput(nil, &c.o)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var out Output
			for b.Loop() {
				if err := DecodeOutput(buf, &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
