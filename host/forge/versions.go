package forge

import "slices"

// versions tells which locals hold other values on one way than on another where ways meet: those become parameters of what follows,
// each a value of its own. A value is a number here, the same for all locals and operands that hold it. What was written is kept in a
// log, in which each local stands once for each open block that it was set in.
//
// At the head of a loop all that are set in it are taken to differ, and so are those set in a loop where a branch leaves it: which these
// are is not known before the loop ends.
type versions struct {
	now   []uint32 // of each local
	last  []int    // its last entry in the log, or -1
	log   []written
	next  uint32
	head  uint32   // numbers up to it are of before the last loop began: what had one may be another in each round
	joins [][]join // by depth of the open blocks: what is known of those who come to their labels
	at    []int    // of a local: its place in such a list, while it is gone through; else -1
	found []uint32 // scratch
	steps int      // how many entries of the log and of the lists have been looked at
}

const (
	foundSteps = 4  // for what frame does with a local that is found, in each of its passes
	joinSteps  = 16 // for the memory of an entry of a list
)

type written struct {
	local  uint32
	before uint32 // the value that it had
	prev   int    // its entry before this one, or -1
}

// join is a local that was set before some way to a label.
type join struct {
	local, value uint32
	differs      bool // from one way to another
}

func (v *versions) reset(locals int) {
	v.log, v.next, v.head, v.steps = v.log[:0], 0, 0, 0
	v.now = append(v.now[:0], make([]uint32, locals)...)
	v.last, v.at = v.last[:0], v.at[:0]
	for i := range locals {
		v.now[i] = v.number()
		v.last, v.at = append(v.last, -1), append(v.at, -1)
	}
}

// open is called for a block that is opened at a depth; what it returns is its beginning, for the other calls.
func (v *versions) open(depth int) (begin int) {
	for len(v.joins) <= depth {
		v.joins = append(v.joins, nil)
	}
	v.joins[depth] = v.joins[depth][:0]
	return len(v.log)
}

// number returns that of a new value.
func (v *versions) number() uint32 {
	v.next++
	return v.next
}

// set notes that a local is set to a value in the innermost block.
func (v *versions) set(local, value uint32, begin int) {
	if v.last[local] < begin {
		v.log = append(v.log, written{local, v.now[local], v.last[local]})
		v.last[local] = len(v.log) - 1
	}
	v.now[local] = value
}

// way is one to the label of the block at a depth; first says that none was before.
func (v *versions) way(depth, begin int, first bool) {
	list := v.joins[depth]
	if first {
		n := 0
		for _, w := range v.log[begin:] {
			if w.prev < begin {
				n++
			}
		}
		list = slices.Grow(list, n)
		v.steps += len(v.log) - begin
	}
	for i := range list {
		v.at[list[i].local] = i
	}
	for _, w := range v.log[begin:] {
		if w.prev >= begin {
			continue
		}
		value := v.now[w.local]
		if i := v.at[w.local]; i >= 0 {
			list[i].differs = list[i].differs || list[i].value != value
		} else {
			list = append(list, join{w.local, value, !first && value != w.before})
		}
	}
	v.steps += (len(list) - len(v.joins[depth])) * joinSteps
	for i := range list {
		v.at[list[i].local] = -1
	}
	v.joins[depth] = list
	v.steps += 2*len(list) + len(v.log) - begin
}

// back makes all locals what they were where the block began.
func (v *versions) back(begin int) {
	for _, w := range v.log[begin:] {
		if w.prev < begin {
			v.now[w.local] = w.before
		}
	}
}

// shut ends a block within one that began at outer, and returns the locals of which there is another value behind it: with all, those
// that are set in it. The list is valid until the next call.
func (v *versions) shut(depth, begin, outer int, loop, all bool) []uint32 {
	v.found = v.found[:0]
	v.steps += len(v.joins[depth]) + 2*(len(v.log)-begin)
	if !loop {
		v.back(begin)
	}
	for _, j := range v.joins[depth] {
		if j.differs && !all {
			v.found = append(v.found, j.local)
		}
		v.now[j.local] = j.value
	}
	end := begin
	for _, w := range v.log[begin:] {
		switch {
		case w.prev >= begin:
			continue
		case all:
			v.found = append(v.found, w.local)
		}
		if w.prev >= outer {
			v.last[w.local] = w.prev
			continue
		}
		v.last[w.local] = end
		v.log[end] = w
		end++
	}
	v.log = v.log[:end]
	for _, local := range v.found {
		v.now[local] = v.number()
	}
	v.steps += len(v.found) * foundSteps
	return v.found
}
