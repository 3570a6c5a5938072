package forge

import "fmt"

// flow estimates what the control flow of a function has the runtime's compiler do beyond what it does for each instruction. It builds
// SSA from the blocks, and searches, copies and compares lists in ways that are cheap for what compilers emit and quadratic or worse
// for what an attacker can: 4.5 KiB of nested loops took 24 s. Each of the figures is an upper bound of a kind of steps, and has a limit
// over the whole module. The blocks are followed as the compiler does it, code out of reach left out.
//
//   - walks: where a local, a global or the memory was last written is searched for through the blocks with one way into them, up to
//     where ways meet (chain of them), and there through each way.
//   - phis: where ways meet, locals that were written since become parameters. For each of those, on each way, all of them are looked
//     at, once for each loop around.
//   - live: each block has a list of the values that are used behind it, and one of the addresses that are known to be in bounds.
//   - behind: what is live at the head of a loop is added to the lists of all blocks that are reached through it alone, of those behind
//     the loop, too. So with loops one behind the other the lists grow with each.
type flow struct {
	dead    bool // code here is out of reach
	chain   int  // blocks since ways met
	known   int  // addresses known to be in bounds
	gets    int  // of locals
	sets    int
	loops   int // around
	deepest int
	calls   int // counted with what the forge adds
	meets   int // chains of all ways that meet, together

	made    int // values that locals and globals have had
	carried int // values live at the heads of loops that all ways to here lead through
	marked  int // of those made, how many when the last of these began

	walks, phis, live int
	behind            int
	memory            int // bytes that the compiler takes
}

// phisMost keeps sums and products within 64 bits.
const phisMost = 1 << 50

// flowBlock is what flow knows of an open block.
type flowBlock struct {
	skip       bool // it was opened out of reach
	gets, sets int  // before
	ways       int  // to its label
	chains     int  // of those together
	chain      int  // of the last of those; of an if before its else, at its head
	known      int  // the least of them
	carried    int  // likewise
	marked     int
	chainElse  int
	knownElse  int
	headElse   [2]int // of an if before its else, carried and marked at its head
	inner      bool   // a loop in which another has begun
	number     int    // its place in bodyInfo.meets
	moved      int    // sets of locals before, as moves has them

	depth, begin int  // for versions
	loops        int  // around it
	at           int  // the instruction that came to its label last, or -1
	crossed      bool // one came there out of a loop
}

// nextBlock counts blocks that begin here: ways to a label are edges, too, since each gets a block of its own.
func (c *checker) nextBlock(edges int) {
	f := &c.flow
	f.live += edges * (1 + len(c.stack) + min(len(c.locals), f.gets+f.sets) + f.known)
	f.behind += edges * f.carried
}

// flowOpen is called behind the opening of a block.
func (c *checker) flowOpen(b *block) {
	f := &c.flow
	b.flow = flowBlock{skip: f.dead, gets: f.gets, sets: f.sets, number: len(c.info.meets), moved: len(c.moves.sets),
		depth: len(c.blocks) - 1, begin: c.versions.open(len(c.blocks) - 1), loops: f.loops, at: -1}
	c.info.meets = append(c.info.meets, 0)
	c.trace.open(b.op == opLoop)
	if f.dead {
		return
	}
	switch b.op {
	case opLoop:
		f.meets += f.chain + 1
		f.chain = 0
		f.loops++
		c.versions.head = c.versions.next
		c.head()
		f.deepest = max(f.deepest, f.loops)
		f.calls += 2
		c.nextBlock(2)
	case opIf:
		f.chain++
		b.flow.chainElse, b.flow.knownElse, b.flow.headElse = f.chain, f.known, [2]int{f.carried, f.marked}
		c.nextBlock(2)
	}
}

// head is called at the head of a loop. Which locals get values there, since they are set in the loop, is known at its end; if a loop
// begins in it before, all do.
func (c *checker) head() {
	f := &c.flow
	for i := len(c.blocks) - 2; f.loops > 1 && i >= 0; i-- {
		if b := &c.blocks[i]; b.op == opLoop {
			if !b.flow.inner {
				b.flow.inner = true
				f.made += len(c.locals) + c.info.globals
			}
			break
		}
	}
	f.carried += len(c.stack) + frameValues + min(len(c.locals)+c.info.globals, f.made-f.marked)
	f.marked = f.made
}

// flowWay notes n branches to a label.
func (c *checker) flowWay(b *block, n int) {
	f := &c.flow
	if f.dead {
		return
	}
	w := &b.flow
	if w.ways == 0 || f.known < w.known {
		w.known = f.known
	}
	if w.ways == 0 {
		w.carried, w.marked = f.carried, f.marked
	}
	w.carried, w.marked = min(w.carried, f.carried), min(w.marked, f.marked)
	if b.op != opLoop && w.at != c.in.at {
		c.versions.way(w.depth, w.begin, w.ways == 0)
		c.stepped()
		w.at = c.in.at
		w.crossed = w.crossed || f.loops > w.loops
	}
	w.ways += n
	w.chain = f.chain
	w.chains += n * (f.chain + 1)
	c.nextBlock(n)
}

func (c *checker) flowElse(b *block) {
	f, w := &c.flow, &b.flow
	if w.skip {
		return
	}
	c.flowWay(b, 1)
	c.versions.back(w.begin)
	f.dead, f.chain, f.known, f.carried, f.marked = false, w.chainElse, w.knownElse, w.headElse[0], w.headElse[1]
}

// flowEnd is called where a block ends.
func (c *checker) flowEnd(b *block) {
	f, w := &c.flow, &b.flow
	if w.skip {
		f.dead = true
		return
	}
	if b.op == opLoop {
		p := len(b.typ.params) + min(len(c.locals), f.gets+f.sets-w.gets-w.sets)
		f.phis = min(f.phis+2*(w.ways+1)*p*p, phisMost)
		f.meets += w.chains
		if w.ways > 0 {
			c.info.meets[w.number] = uint32(len(b.typ.params) + c.moves.meet(w.moved))
		}
		c.meet(b)
		f.loops--
		f.chain++
		c.nextBlock(1)
		return
	}
	c.flowWay(b, 1)
	if b.op == opIf { // without an else: what takes its place
		c.versions.back(w.begin)
		w.at = -1
		f.dead, f.chain, f.known, f.carried, f.marked = false, w.chainElse, w.knownElse, w.headElse[0], w.headElse[1]
		c.flowWay(b, 1)
	}
	f.dead = w.ways == 0
	f.known, f.carried, f.marked = w.known, w.carried, w.marked
	if w.ways == 1 {
		f.chain = w.chain + 1
	} else {
		p := len(b.typ.results) + min(len(c.locals), f.sets-w.sets)
		f.phis = min(f.phis+w.ways*p*p, phisMost)
		f.meets += w.chains
		c.info.meets[w.number] = uint32(len(b.typ.results) + c.moves.meet(w.moved))
		f.chain = 0
	}
	c.meet(b)
}

// meet notes which locals have other values behind the label of a block that has ended.
func (c *checker) meet(b *block) {
	w := &b.flow
	loop, outer := b.op == opLoop, 0
	if len(c.blocks) > 0 {
		outer = c.blocks[len(c.blocks)-1].flow.begin
	}
	ways := w.ways
	if loop && ways > 0 {
		ways++ // from before it
	}
	c.trace.meet(w.number, ways, c.versions.shut(w.depth, w.begin, outer, loop, w.crossed || loop && w.ways > 0))
	if n := len(c.versions.found) + c.info.globals; !w.inner && (loop || w.ways > 1) {
		c.flow.made += n
	}
	c.stepped()
}

// stepped holds what versions has done against the limit, while it does it: it may grow with the square of the code.
func (c *checker) stepped() {
	if c.versions.steps > c.steps {
		c.fail("up to here too many locals, globals or operands are held over too many blocks, branches or calls: following them takes more than %d steps",
			c.d.cost.steps+c.steps)
	}
}

// places estimates the frame of the function, once the rest of what it costs is known to be within the limits.
func (c *checker) places() {
	if c.r.err != nil {
		return
	}
	c.info.values, _ = c.frame.find(&c.trace, c.steps-c.versions.steps)
	c.versions.steps += c.frame.steps
	c.stepped()
	c.d.cost.steps += c.versions.steps
}

// flowUse notes that something is searched for that was written before.
func (c *checker) flowUse(n int) {
	if !c.flow.dead {
		c.flow.walks += n * c.flow.chain
	}
}

// flowAccess notes an access to memory.
func (c *checker) flowAccess() {
	c.flowUse(2)
	if !c.flow.dead {
		c.flow.known++
	}
}

// takes is how many bytes the compiler takes for an instruction, about, while it is at the function: measured as what it allocates for
// functions of thousands of the same, on amd64. What can trap takes by far the most.
func takes(op opcode) int {
	switch {
	case op == opCallIndirect:
		return 15_000
	case op >= opI32Load && op <= opI64Store32:
		return 4_900
	case op.divides():
		return 5_700
	case op.truncates():
		return 8_300
	case op >= 0x5b && op <= 0x66, op >= 0x8b && op <= 0xbf: // other floating point
		return 1_500
	case op == opTableGet, op == opTableSet:
		return 5_200
	case op>>8 == opVector:
		return 4_500
	case op>>8 == opBulk, op == opMemoryGrow, op == opCall:
		return 2_800
	case op == opLoop:
		return 20_000
	case op == opBlock, op == opIf, op == opBrIf:
		return 6_700
	}
	return 300
}

const (
	takesTarget = 2_800 // of a br_table
	takesValue  = 430   // on a long list
	behindBytes = 8     // of a value in such a list
)

// longList is from how many values on a list is a long one.
const longList = 16

// moved counts the values of a list that is pushed, popped or passed.
func (c *checker) moved(n int) {
	if n <= longList {
		return
	}
	if !c.flow.dead {
		c.flow.memory += n * takesValue
	}
	if c.d.cost.values += n; c.d.cost.values > c.d.limits.MaxValues {
		c.fail("up to here long lists of parameters, results and operands of branches have more than %d values together: "+
			"pass them in memory", c.d.limits.MaxValues)
	}
}

// cost is what the functions so far cost the compiler: see Limits.
type cost struct {
	squares, values, locals, walks, phis, live, calls, widest, wide, memory, steps, behind int
}

// allowance is what each byte of code adds to a limit.
const (
	squaresPerByte = 64
	localsPerByte  = 2
	walksPerByte   = 16
	phisPerByte    = 128
	livePerByte    = 8
	behindPerByte  = 8
	loadsPerByte   = 1
	widePerByte    = 64
	stepsPerByte   = 32
)

// spend adds what the function takes to what those before took, and holds it against the limits.
func (c *checker) spend() {
	if c.r.err != nil {
		return
	}
	k, f, l := &c.d.cost, &c.flow, &c.d.limits
	k.squares += c.parts * (c.parts + c.edges)
	k.locals += len(c.locals)
	k.walks += f.walks + f.meets*min(len(c.locals), f.gets)
	k.phis += f.phis * (1 + f.deepest)
	k.live += f.live
	k.behind += f.behind
	k.calls += f.calls
	k.widest = max(k.widest, c.parts+c.edges)
	k.wide += k.widest
	f.memory += c.edges*takesTarget + f.live*14 + f.behind*behindBytes
	k.memory = max(k.memory, f.memory)
	code := c.r.off - c.d.m.sectionAt["code"]
	for _, s := range []struct {
		have, most, perByte int
		what                string
	}{
		{k.squares, l.MaxBlocksSquared, squaresPerByte, "too many blocks and branches on the whole: the squares of their numbers add up to %d"},
		{k.locals, l.MaxLocalsSum, localsPerByte, "%d locals and parameters"},
		{k.walks, l.MaxWalks, walksPerByte, "locals, globals or memory used after too many branches: searching for what they hold takes %d steps"},
		{k.phis, l.MaxPhis, phisPerByte, "branches that meet with too many values, or in too many loops: comparing them takes %d steps"},
		{k.live, l.MaxLive, livePerByte, "too many values held over too many branches: %d together"},
		{k.behind, l.MaxBehind, behindPerByte, "too many values held at loops one behind the other: %d together"},
		{f.memory, l.MaxCompiler, 0, "one, the last, for which the compiler takes some %d bytes of memory: split it"},
		{k.wide, l.MaxWide, widePerByte, "too many functions behind one with many branches: %d steps"},
	} {
		if most := s.most + s.perByte*code; s.have > most {
			c.fail("the functions up to here have "+s.what+", for %d bytes of code at most %d are accepted", s.have, code, most)
			return
		}
	}
}

// affordable holds products against the limits that only the whole module shows, with what was added to it.
func (w *rewriter) affordable() *Error {
	m, l, k := w.m, &w.opt.Limits, &w.m.cost
	functions := len(m.funcs) + len(w.helpers)
	mutable, code := int(w.added), 0
	for _, g := range m.globals {
		if g.mutable {
			mutable++
		}
	}
	for i := range m.bodies {
		code += len(m.bodies[i].code)
	}
	pairs := functions * (len(w.types) + len(m.globals) + int(w.added) + (len(m.exports)+len(w.exports))/16)
	wide := k.wide + len(w.helpers)*max(k.widest, w.widest)
	for _, s := range []struct {
		have, most int
		section    string
		what       string
	}{
		{pairs, l.MaxPairs, "function", "%d functions × types, globals and exports, those that are injected included"},
		{(k.calls + w.calls) * mutable, l.MaxGlobalLoads + loadsPerByte*code, "global", "%d calls × mutable globals, those that are injected included"},
		{wide, l.MaxWide + widePerByte*code, "function", "too many functions behind one with many branches: %d steps"},
	} {
		if s.have > s.most {
			return &Error{Section: s.section, Function: -1, Offset: m.sectionAt[s.section],
				Reason: fmt.Sprintf("the module has "+s.what+", at most %d are accepted", s.have, s.most)}
		}
	}
	return nil
}

// helperCalls is how many calls a helper that takes the place of a bulk instruction makes at most.
const helperCalls = 6
