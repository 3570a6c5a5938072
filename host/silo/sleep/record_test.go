package sleep

import (
	"bytes"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// FuzzRecord: no bytes make the decoder fail other than with an error, and what it takes is what this package writes.
func FuzzRecord(f *testing.F) {
	for i, n := range []int{8, 60, 5000} {
		_, z := nth(f, i, n)
		var kb keyBuf
		key := kb.of(z.Identity)
		h := newHead(z, key)
		rec := make([]byte, h.len())
		h.put(rec, key, z.State)
		f.Add(rec)
		f.Add(rec[:len(rec)-1])
	}
	f.Add(make([]byte, headLen+10))
	f.Fuzz(func(t *testing.T, b []byte) {
		if z, n, err := ReadRecord(b); err == nil {
			if again, err := AppendRecord(nil, &z); err != nil || !bytes.Equal(again, b[:n]) {
				t.Errorf("%x is written as %x, %v", b[:n], again, err)
			}
		}
		h, key, err := parseHead(b)
		if err != nil {
			return
		}
		id, err := h.identity(key)
		if err != nil {
			return
		}
		z, err := h.sleeper(id, b, true)
		if err != nil {
			return
		}
		again := newHead(&z, key)
		rec := make([]byte, again.len())
		again.put(rec, key, z.State)
		if id.Key() != string(key) || !bytes.Equal(rec, b[:len(rec)]) {
			t.Errorf("%x is written as %x", b, rec)
		}
	})
}

func TestRecordBounds(t *testing.T) {
	long := string(bytes.Repeat([]byte{'k'}, 255))
	for _, z := range []Sleeper{
		{Identity: ident(t, "a", "b")},
		{Identity: ident(t, long[:63], long), State: []byte{1}},
		{Identity: ident(t, "a", "b/c/d"), Epoch: abi.Epoch{Generation: 1<<32 - 1, Index: 1<<64 - 1}, Uses: 255},
		{Identity: ident(t, "a", "ü"), Slept: time.Unix(1<<32-1, 0)},
	} {
		s := closed(t, newStore(Config{}, systemMemory()))
		put(t, s, Partitions-1, &z)
		page, more := s.List("", "", 1)
		if len(page) != 1 || more || page[0] != (Info{z.Identity, z.Epoch, z.Uses, z.Slept, len(z.State)}) {
			t.Errorf("%+v, %v", page, more)
		}
		take(t, s, Partitions-1, &z)
	}
	for in, out := range map[int64]int64{-5: 1, 0: 1, 1 << 40: 1<<32 - 1} { // clipped, and never the zero time
		if got := timeOf(seconds(time.Unix(in, 0))); got.Unix() != out {
			t.Errorf("%d: %v", in, got)
		}
	}
}
