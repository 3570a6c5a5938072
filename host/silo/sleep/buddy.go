package sleep

import "math/bits"

// buddy hands out runs of 2^k units of a space of 2^order, the lowest first. It is a binary tree in a slice: a node
// holds 1 + the order of the largest free run below it, or 0.
type buddy struct {
	order   int
	longest []uint8
}

func newBuddy(order int) *buddy {
	b := &buddy{order: order, longest: make([]uint8, 2<<order-1)}
	for i := range b.longest {
		b.longest[i] = uint8(order - bits.Len(uint(i+1)) + 2)
	}
	return b
}

// orderOf is the order of the smallest run that holds n units.
func orderOf(n int) int { return bits.Len(uint(n - 1)) }

func (b *buddy) fits(order int) bool { return int(b.longest[0]) > order }
func (b *buddy) empty() bool         { return int(b.longest[0]) == b.order+1 }

// alloc returns the first unit of a run; it must fit.
func (b *buddy) alloc(order int) int {
	i := 0
	for k := b.order; k > order; k-- {
		if i = 2*i + 1; int(b.longest[i]) <= order {
			i++
		}
	}
	b.longest[i] = 0
	unit := (i+1)<<order - 1<<b.order
	for i > 0 {
		i = (i - 1) / 2
		b.longest[i] = max(b.longest[2*i+1], b.longest[2*i+2])
	}
	return unit
}

// free returns a run that alloc gave.
func (b *buddy) free(unit, order int) {
	i := (unit+1<<b.order)>>order - 1
	b.longest[i] = uint8(order + 1)
	for k := order + 1; i > 0; k++ {
		i = (i - 1) / 2
		l, r := b.longest[2*i+1], b.longest[2*i+2]
		if l == r && int(l) == k { // both whole
			b.longest[i] = uint8(k + 1)
		} else {
			b.longest[i] = max(l, r)
		}
	}
}
