package engine

import ("testing";"fmt";"context")

func TestZZ(t *testing.T) {
	for kind, file := range counters {
	i := instance(t, file, noHost{}, Options{})
	show := func(what string) {
		var pages []uint32
		i.cleanInbox()
		i.memory.slot.Dirty(func(o uint32, p []byte) bool { pages = append(pages, o>>12); return true })
		fmt.Println(kind, what, len(pages), pages, i.memory.slot.DirtyBytes()/4096, len(i.memory.slot.Bytes())>>12, i.inbox>>12, i.inboxSize)
	}
	show("start")
	for n := range 20 {
		ev := call("add", addOne)
		if n == 0 { ev = first(kind, "add", addOne) }
		count(t, i, ev)
		if n < 3 || n == 19 {show(fmt.Sprint(n+1))}
	}
	}
	_ = context.Background
}
