package forge

import "fmt"

// Tier says how instances of a module can be made.
type Tier uint8

const (
	// Plain modules are instantiated in the ordinary way: they keep state that cannot be saved from outside.
	Plain Tier = iota

	// Image modules keep all their state in memory and in numeric and vector globals: an instance is a copy of those of
	// another one.
	Image
)

func (t Tier) String() string {
	if t == Image {
		return "image"
	}
	return "plain"
}

// maxVectors is how many v128 globals an image may have. Each is read and set by a function of its own, which takes some four microseconds a
// copy, in no turn's time, and two milliseconds to compile where there are many.
const maxVectors = 256

// tierOf decides, and says why in a sentence for people.
func tierOf(m *module) (Tier, string) {
	if p := m.uses.tableWrite; p != nil {
		what := fmt.Sprintf("changes table %d", p.table)
		if p.op == opElemDrop {
			what = "drops elements"
		}
		return Plain, fmt.Sprintf("function %d %s by %s at byte %d", p.function, what, p.op, p.at)
	}
	for _, e := range m.imports {
		switch {
		case e.kind == kindTable, e.kind == kindMemory:
			return Plain, fmt.Sprintf("the %s %q.%q is imported", kindNames[e.kind], e.module, e.name)
		case e.kind == kindGlobal && e.global.mutable:
			return Plain, fmt.Sprintf("the mutable global %q.%q is imported", e.module, e.name)
		}
	}
	vectors := 0
	for i, g := range m.globals {
		if g.mutable && g.val.reference() {
			return Plain, fmt.Sprintf("global %d is a mutable %s", i, g.val)
		}
		if g.mutable && g.val == v128 {
			if vectors++; vectors > maxVectors {
				return Plain, fmt.Sprintf("global %d is one of more than %d mutable v128", i, maxVectors)
			}
		}
	}
	for i, s := range m.data {
		if s.mode == active && s.offset.op != opI32Const {
			return Plain, fmt.Sprintf("data segment %d at byte %d is placed by an imported global", i, s.at)
		}
	}
	return Image, "all state is memory and numeric globals"
}
