package forge

import "slices"

// Where the debits stand. Charging each basic block where it begins is exact, and dear: most blocks are a few instructions
// long. So blocks are paid ahead. Each has a credit: what every way into it has paid of what is to come. A block then pays
//
//	its own cost + the greatest credit of those that can follow - its own credit
//
// which is 0 for most if credits are well chosen, and below 0 for a few behind loops: those give back. That is exact where all
// that can follow a block has the same credit, which exact holds; slack would allow for a difference, and so for paths that
// pay up to that much too much at each branch. It is 0: what more of it saved was not to be measured.
//
// The function's entry has no credit, nor what stands behind its end. Heads of loops have none either, but for those that
// choose by a large br_table, as the loop around all of a Go function does: there it is the many ways back that pay.

const (
	slack     = 0   // units that a branch may cost more than what it leads to
	creditMax = 256 // units
	trapMax   = 64  // what leads to an unreachable and costs at most so much is not charged
	maxSweeps = 16

	dispatchWays = 8 // of a br_table at the head of a loop, for the loop to be one that interprets
)

// planned is a basic block of the body, in order of the code: only ways back lead to one before.
type planned struct {
	cost   int64
	credit int64
	debit  int64
	depth  int32 // of the loops around it
	first  int32 // its ways in plan.to
	head   bool  // of a loop
	table  bool  // it ends with a br_table
	trap   bool  // it ends with an unreachable
	bound  int64 // of its credit
	raised bool  // its credit is more than it needs, for the sake of a loop that leads to it
	once   bool  // it was raised at some time, and is not again
	calls  bool
	fuel   holder // when it begins
	// through: it pays into the global at once. In a function without loops the next call, or the end, is near.
	through bool
	from    int32 // the depth of what leads here; -1: nothing yet
}

// way leads from one block to another; -1 is the end of the function.
type way struct{ from, to int32 }

// plan is one body's.
type plan struct {
	blocks []planned
	ways   []way
	open   []way   // to the ends of labels: to is the next one to the same label, -1 behind the last
	to     []int32 // all blocks' ways
	left   holder  // where the fuel is when the function is left
	tests  int     // of the fuel, in code that is long without one
}

func (p *plan) reset() {
	p.blocks, p.ways, p.open, p.tests = p.blocks[:0], p.ways[:0], p.open[:0], 0
}

// here is the number of the block that is being read.
func (p *plan) here() int32 { return int32(len(p.blocks)) }

func (p *plan) way(from, to int32) { p.ways = append(p.ways, way{from, to}) }

// later notes a way to the end of a label, which has such ways already from *first on; -1 is none.
func (p *plan) later(from int32, first *int32) {
	p.open = append(p.open, way{from, *first})
	*first = int32(len(p.open)) - 1
}

// shut leads what branched to a label to the block that comes next.
func (p *plan) shut(first int32) {
	for ; first >= 0; first = p.open[first].to {
		p.way(p.open[first].from, p.here())
	}
}

// finish chooses credits, and from them debits.
func (p *plan) finish() {
	n := len(p.blocks)
	next := make([]int32, n+1)
	for _, w := range p.ways {
		next[w.from+1]++
	}
	for i := range n {
		next[i+1] += next[i]
	}
	for i := range p.blocks {
		p.blocks[i].first = next[i]
	}
	p.to = slices.Grow(p.to[:0], len(p.ways))[:len(p.ways)]
	for _, w := range p.ways {
		p.to[next[w.from]] = w.to
		next[w.from]++
	}
	if !p.choose(true) && !p.choose(false) { // as charging each block by itself does
		for i := range p.blocks {
			p.blocks[i].credit = 0
		}
	}
	for i := range p.blocks {
		b := &p.blocks[i]
		b.debit = p.need(int32(i)) - b.credit
		if b.trap && b.cost <= trapMax || b.debit < 0 && b.debit >= -slack {
			b.debit = 0
		}
	}
	p.settle()
}

// follow are the ways from a block.
func (p *plan) follow(i int32) []int32 {
	if int(i)+1 < len(p.blocks) {
		return p.to[p.blocks[i].first:p.blocks[i+1].first]
	}
	return p.to[p.blocks[i].first:]
}

// free says whether a block takes any credit, since what runs into a trap is not looked at any more.
func (p *plan) free(i int32) bool { return i >= 0 && p.blocks[i].trap && p.blocks[i].cost <= trapMax }

func (p *plan) credit(i int32) int64 {
	if i < 0 {
		return 0
	}
	return p.blocks[i].credit
}

// need is what a block has to have in credit so as to pay nothing.
func (p *plan) need(i int32) int64 {
	most := int64(0)
	first := true
	for _, s := range p.follow(i) {
		if !p.free(s) && (first || p.credit(s) > most) {
			most, first = p.credit(s), false
		}
	}
	return p.blocks[i].cost + most
}

// choose chooses credits and reports whether they are right.
func (p *plan) choose(heads bool) bool {
	p.bounds(heads)
	for range maxSweeps {
		if p.sweep() {
			return p.exact()
		}
	}
	return false
}

// exact reports whether no block has ways of different credit.
func (p *plan) exact() bool {
	for i := range p.blocks {
		least, most := int64(creditMax), int64(0)
		for _, s := range p.follow(int32(i)) {
			if !p.free(s) {
				least, most = min(least, p.credit(s)), max(most, p.credit(s))
			}
		}
		if most-least > slack {
			return false
		}
	}
	return true
}

// bounds gives credit to the heads that have some, and takes it from what a large br_table there leads to: among many there is
// one that needs next to nothing.
func (p *plan) bounds(heads bool) {
	for i := range p.blocks {
		b := &p.blocks[i]
		b.bound, b.credit, b.raised, b.once = creditMax, 0, false, false
	}
	p.blocks[0].bound = 0
	for i := range p.blocks {
		b := &p.blocks[i]
		if !b.head {
			continue
		}
		b.bound = 0
		ways := p.follow(int32(i))
		if !heads || !b.table || len(ways) < dispatchWays || i == 0 {
			continue
		}
		b.bound = min(b.cost, creditMax)
		for _, s := range ways {
			if s > int32(i) && !p.blocks[s].head {
				p.blocks[s].bound = 0
			}
		}
	}
}

// sweep goes from the end to the start and reports whether nothing changed.
func (p *plan) sweep() (settled bool) {
	settled = true
	for i := int32(len(p.blocks)) - 1; i >= 0; i-- {
		if p.agree(i) {
			settled = false
		}
		b := &p.blocks[i]
		credit := p.need(i)
		switch {
		case b.raised:
			continue
		case credit > creditMax && !b.head:
			b.bound, credit = 0, 0
		case credit > b.bound:
			credit = b.bound
		}
		if credit != b.credit {
			b.credit, settled = credit, false
		}
	}
	return settled
}

// agree makes the credits of a block's ways equal, or nearly so: to the least among those that stay in the most loops. Others
// of less are raised to that; at the end of the function and at heads of loops there is nothing to raise.
func (p *plan) agree(i int32) (changed bool) {
	ways := p.follow(i)
	if len(ways) < 2 {
		return false
	}
	most, want, depth := int64(creditMax), int64(creditMax), int32(-1)
	for _, s := range ways {
		if p.free(s) {
			continue
		}
		c := p.credit(s)
		if s < 0 || s <= i || p.blocks[s].bound <= c || p.blocks[s].once { // cannot be raised
			most = min(most, c)
		}
		if s >= 0 && (p.blocks[s].depth > depth || p.blocks[s].depth == depth && c < want) {
			want, depth = c, p.blocks[s].depth
		}
	}
	want = min(want, most)
	for _, s := range ways {
		if s <= i || p.free(s) || p.blocks[s].head {
			continue
		}
		switch b := &p.blocks[s]; {
		case b.credit > want+slack:
			b.credit, b.bound, b.raised, changed = want, want, false, true
		case b.credit < want-slack && b.depth < depth && !b.once:
			b.credit, b.raised, b.once, changed = want, true, true, true
		}
	}
	return changed
}
