package forge

// moves counts locals that are moved where ways meet: at the head of a loop those that are set in the loop, at the end of a block those
// that are set in the block. If they differ from one way to another, they become parameters of what follows in the runtime's compiler,
// and each way moves them all, through the stack if they are many. Whether anything reads them is not looked at. No instruction
// says so, so it is these places that pay: see freeMoves.
type moves struct {
	sets  []uint32 // locals that were set, in code within reach; those of a block that has ended stand there once
	lists []int    // of each local: the last list that it was in, for meet
	list  int
}

func (m *moves) reset(locals int) {
	m.sets, m.list = m.sets[:0], 0
	m.lists = append(m.lists[:0], make([]int, locals)...)
}

// meet returns how many locals were set since there were so many sets.
func (m *moves) meet(from int) int {
	m.list++
	at := from
	for _, local := range m.sets[from:] {
		if m.lists[local] != m.list {
			m.lists[local] = m.list
			m.sets[at] = local
			at++
		}
	}
	m.sets = m.sets[:at]
	return at - from
}
