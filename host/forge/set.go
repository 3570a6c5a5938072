package forge

import "math/bits"

// set is one of small numbers. Those that are used together have the same size.
type set []uint64

// sized returns an empty set of numbers below n, in the memory of s if that is enough.
func (s set) sized(n int) set {
	words := (n + 63) / 64
	if cap(s) < words {
		return make(set, words)
	}
	s = s[:words]
	clear(s)
	return s
}

func (s set) add(i uint32)      { s[i/64] |= 1 << (i % 64) }
func (s set) drop(i uint32)     { s[i/64] &^= 1 << (i % 64) }
func (s set) has(i uint32) bool { return s[i/64]>>(i%64)&1 != 0 }

// join adds what is in o, and says whether any of that was missing.
func (s set) join(o set) (grown bool) {
	for i, w := range o {
		grown = grown || w&^s[i] != 0
		s[i] |= w
	}
	return grown
}

// common counts what is in both.
func (s set) common(o set) (n int) {
	for i, w := range s {
		n += bits.OnesCount64(w & o[i])
	}
	return n
}
