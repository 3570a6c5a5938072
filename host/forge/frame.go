package forge

import "math/bits"

// frame estimates how many places for values the runtime's compiler makes in the frame of a function: one for each value that is ever
// put out of its register while it is still wanted, for the whole of the call. A value begins where a local is set or an operand
// computed, and where ways meet on which a local is set.
//
// The body is gone through from its end to its beginning, since what is wanted at a place is known from what comes behind it: a variable
// is live from its use, backwards, to where it is set. What is live at the head of a loop, and so at the branches back to it, is
// known only when the loop has been gone through; until nothing is added there, the body is gone through again.
//
// A call puts out whatever is live across it, and so do the tests of fuel at the entry and at the heads of loops, which call the host at
// times. Elsewhere a value is put out where one more is live than there are registers, where an instruction wants a
// certain one, where arguments are put in place, and at the end of a way that meets others, if what is in a register on one of
// them is not on another. Which value it is depends on the rest of the function, so all that are live there are crowded; but one such
// place puts out only so many, and no more of the crowded are counted than that.
//
// The rules are those of wazero 1.12 on amd64 (internal/engine/wazevo/backend/regalloc), which has the fewer registers; the numbers are
// set by what it does to 2,700 functions of Go and 13 of C, and to 20,000 of random code, some of it bred for large frames. See "How much
// stack does a call take?" in RATIONALE.md for how far above they are.
type frame struct {
	t         *trace
	at        state
	ints      int // live variables
	floats    int
	addresses int // of the memory that are live
	crowds    int // places that crowd all
	most      int // floats, live and on the stack
	stacked   int // the lowest so many operands on the stack have been put out
	tight     int // the lowest so many are crowded
	labels    []state
	opened    int // of those
	globals   set
	read      set // variables

	values    int // that have a place
	evictions int // that may have put out a crowded value, and are not used up
	grown     bool

	steps   int // words of sets that have been gone through, and entries of lists
	allowed int // of those
}

// state is what is known of the variables at a place of the body.
type state struct {
	live    set // wanted behind it
	out     set // of those, put out behind it
	crowded set
}

const (
	frameInts      = 13 // of 14, with the base and the length of the memory, without the two contexts that each function is passed
	frameFloats    = 13 // of 16
	scratchFloats  = 5  // of those that a function may use without keeping what its caller has in them, which takes 16 bytes each
	savedFloats    = 8
	frameOperands  = 3 // put out by an instruction: for its result, and to get two of its operands back
	frameArguments = 6 // put out by a call, to put arguments in place
	loopValues     = 3 // of the fuel
	frameValues    = 5 // the contexts, and of the fuel
	framePasses    = 6 // Go's functions take up to 4; after that all that is read anywhere counts as live in loops
	allOperands    = 1 << 30
)

// find returns the number of places, or gives up where it takes more than so many steps.
func (f *frame) find(t *trace, allowed int) (places int, ok bool) {
	f.t, f.steps, f.allowed = t, 0, allowed
	f.read, f.globals = f.read.sized(t.vars), f.globals.sized(t.vars)
	for x := t.locals; x < t.vars; x++ {
		f.globals.add(uint32(x))
	}
	for i := range t.blocks {
		if b := &t.blocks[i]; b.loop {
			b.head = b.head.sized(t.vars)
			if f.steps += len(b.head); f.steps > allowed {
				return 0, false
			}
		}
	}
	f.pass()
	for n := 1; f.grown && f.steps <= allowed; n++ {
		if n == framePasses {
			for i := range t.blocks {
				if b := &t.blocks[i]; b.loop {
					b.head.join(f.read)
				}
			}
		}
		f.pass()
	}
	return f.values, f.steps <= allowed
}

// pass goes through the body once.
func (f *frame) pass() {
	f.at.sized(f.t.vars)
	f.ints, f.floats, f.addresses, f.crowds, f.most, f.stacked, f.tight, f.opened = 0, 0, 0, 0, 0, 0, 0, 0
	f.values, f.evictions, f.grown = frameValues, 0, false
	for i := len(f.t.events) - 1; i >= 0 && f.steps <= f.allowed; i-- {
		f.event(&f.t.events[i], uint32(i))
	}
	f.values += 2 * min(max(0, f.most-scratchFloats), savedFloats)
	f.values += f.ints + f.floats // parameters, and locals that are read before they are set: at the entry they are put out
}

func (f *frame) event(e *event, i uint32) {
	low, high := int(e.low), int(e.high)
	full := f.ints+f.addresses+high-int(e.floats) > frameInts || f.floats+int(e.floats) > frameFloats
	if n := high - low; full && n > 1 { // all at once
		f.tight = high
		f.evictions += n
	}
	if e.kind == traceLoop {
		f.stacked = high // what a loop takes is there across the test at its head
	}
	stacked := min(f.stacked, high)
	f.values += max(0, stacked-low)
	f.evict(min(f.tight, high) - max(stacked, low))
	f.stacked, f.tight = min(f.stacked, low), min(f.tight, low)
	if e.kind == traceSet {
		f.set(e.x)
	}
	f.most = max(f.most, f.floats+int(e.floats))
	if e.address >= 0 {
		f.access(e.address, i)
	}
	if full {
		f.crowd(low, frameOperands)
	}

	switch e.kind {
	case traceGet:
		f.use(e.x)
	case traceCall:
		f.call(low)
	case traceFixed:
		f.crowd(allOperands, int(e.x))
	case traceEnd:
		f.end(e)
	case traceElse:
		b := &f.t.blocks[e.x]
		b.arm = f.push()
		f.from(&f.labels[b.at], e.dead)
	case traceBlock, traceLoop, traceIf:
		f.open(e)
	case traceBr:
		f.from(&f.labels[f.t.blocks[e.x].at], false)
	case traceBrIf:
		f.join(&f.labels[f.t.blocks[e.x].at])
	case traceBrTable:
		f.at.clear()
		n := f.t.targets[e.x]
		for _, x := range f.t.targets[e.x+1:][:n] {
			f.merge(&f.labels[f.t.blocks[x].at])
		}
		f.recount()
	case traceLeave:
		f.from(nil, true)
	}
}

// crowd notes that values are put out here: of the live variables and the lowest so many operands so many.
func (f *frame) crowd(operands, evictions int) {
	f.at.crowded.join(f.at.live)
	f.crowds++
	f.steps += len(f.at.live)
	f.tight = operands
	f.evictions += evictions
}

// evict counts crowded values, which begin here.
func (f *frame) evict(n int) {
	if n = min(n, f.evictions); n > 0 {
		f.values += n
		f.evictions -= n
	}
}

func (f *frame) use(x uint32) {
	if f.at.live.has(x) {
		return
	}
	f.at.live.add(x)
	f.read.add(x)
	if f.t.floats.has(x) {
		f.floats++
	} else {
		f.ints++
	}
}

func (f *frame) set(x uint32) {
	if !f.at.live.has(x) {
		return
	}
	f.begin(x)
	f.at.live.drop(x)
	if f.t.floats.has(x) {
		f.floats--
	} else {
		f.ints--
	}
}

// begin counts the value of a live variable, which begins here.
func (f *frame) begin(x uint32) {
	if f.at.out.has(x) {
		f.values++
	} else if f.at.crowded.has(x) {
		f.evict(1)
	}
	f.at.out.drop(x)
	f.at.crowded.drop(x)
}

// access is one to the memory, with the base and the length, of which the address is made if it is not there.
func (f *frame) access(x int32, i uint32) {
	f.use(f.t.memory - 1)
	f.use(f.t.memory)
	a := &f.t.addresses[x]
	if i == a.last && i > a.first {
		f.addresses++
		a.crowds = f.crowds
	}
	if i > a.first {
		return
	}
	if a.last > a.first {
		f.addresses--
		if a.crowds < f.crowds {
			f.evict(1)
		}
	}
	if a.before >= 0 {
		f.addresses++
		f.t.addresses[a.before].crowds = f.crowds
	}
}

// call puts out what is live across a call, and so many operands.
func (f *frame) call(operands int) {
	f.reload()
	f.at.out.join(f.at.live)
	f.stacked = operands
	f.crowd(allOperands, frameArguments)
}

// reload is where globals are read anew, as the base and the length of the memory: behind calls, and where ways meet.
func (f *frame) reload() {
	s := &f.at
	f.steps += 2 * len(s.live)
	for i, g := range f.globals {
		if g &= s.live[i]; g != 0 {
			f.values += bits.OnesCount64(g & s.out[i])
			f.evict(bits.OnesCount64(g & s.crowded[i] &^ s.out[i]))
			s.live[i] &^= g
			s.out[i] &^= g
			s.crowded[i] &^= g
			f.floats -= bits.OnesCount64(g & f.t.floats[i])
			f.ints -= bits.OnesCount64(g &^ f.t.floats[i])
		}
	}
}

// meet is where ways meet. It returns how many live variables are passed there.
func (f *frame) meet(b *traced) (passed int) {
	if b.ways < 2 {
		return 0
	}
	f.reload()
	sets := f.t.sets[b.from:b.to]
	f.steps += len(f.at.live) + 2*len(sets)
	for _, x := range sets {
		if f.at.live.has(x) {
			passed++
		}
	}
	// What a way passes goes to certain registers, and what is there out, though others may be free; a way back puts it aside first.
	evictions := f.at.out.common(f.at.live) * b.ways
	if b.loop {
		evictions += passed
	} else {
		evictions += passed * b.ways
	}
	if evictions > 0 {
		f.crowd(allOperands, evictions)
	}
	for _, x := range sets {
		if f.at.live.has(x) {
			f.begin(x)
		}
	}
	return passed
}

// aside is how many of the values that a way back to the head of a loop passes are put out, at most: it puts all of them aside first, in
// values of their own, and takes them from there.
func (f *frame) aside(passed, operands int) int {
	n := (3*max(0, passed-1) + 3) / 4 // as measured, rounded up
	return min(passed, n+max(0, f.ints+f.addresses+f.floats+operands-frameInts))
}

// end is that of a block.
func (f *frame) end(e *event) {
	b := &f.t.blocks[e.x]
	b.arm = -1
	if !b.loop {
		f.meet(b)
	}
	b.at = f.push()
	if e.dead {
		f.from(nil, true)
	}
	if b.loop {
		l := &f.labels[b.at]
		l.clear()
		l.live.join(b.head)
		f.steps += 4 * len(b.head)
	}
}

// open is the beginning of a block.
func (f *frame) open(e *event) {
	b := &f.t.blocks[e.x]
	switch {
	case b.loop:
		f.grown = b.head.join(f.at.live) || f.grown
		f.reload()
		f.at.out.join(f.at.live)
		f.steps += 2 * len(b.head)
		f.stacked = int(e.low)
		passed := f.meet(b) + int(e.high-e.low)
		f.values += loopValues + f.aside(passed, int(e.high))*max(0, b.ways-1)
	case e.kind == traceIf && b.arm >= 0:
		f.join(&f.labels[b.arm])
	case e.kind == traceIf:
		f.join(&f.labels[b.at])
	}
	f.opened = b.at
}

// push keeps the state, and returns its place.
func (f *frame) push() int {
	if f.opened == len(f.labels) {
		f.labels = append(f.labels, state{})
	}
	l := &f.labels[f.opened]
	l.sized(f.t.vars)
	l.join(&f.at)
	f.steps += 6 * len(l.live)
	f.opened++
	return f.opened - 1
}

// from goes on with another state, or with none.
func (f *frame) from(s *state, none bool) {
	f.at.clear()
	f.steps += 3 * len(f.at.live)
	if !none {
		f.merge(s)
	}
	f.recount()
}

func (f *frame) join(s *state) {
	f.merge(s)
	f.recount()
}

func (f *frame) merge(s *state) {
	f.at.join(s)
	f.steps += 3 * len(s.live)
}

func (f *frame) recount() {
	f.steps += 2 * len(f.at.live)
	f.floats = f.at.live.common(f.t.floats)
	f.ints = f.at.live.common(f.at.live) - f.floats
}

func (s *state) sized(n int) {
	s.live, s.out, s.crowded = s.live.sized(n), s.out.sized(n), s.crowded.sized(n)
}

func (s *state) clear() {
	clear(s.live)
	clear(s.out)
	clear(s.crowded)
}

func (s *state) join(o *state) {
	s.live.join(o.live)
	s.out.join(o.out)
	s.crowded.join(o.crowded)
}
