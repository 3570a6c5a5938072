package cbor

// nameSet finds the name that stands twice among those of one object. They are spans of a buffer that grows but does not
// move them, so that few names, the common case, cost no allocation.
type nameSet struct {
	n    int
	few  [12]struct{ start, end int }
	many map[string]struct{} // all names, once they are more than few
}

// add reports whether buf[start:end] is new.
func (t *nameSet) add(buf []byte, start, end int) bool {
	name := buf[start:end]
	if t.many == nil {
		for _, s := range t.few[:t.n] {
			if string(buf[s.start:s.end]) == string(name) {
				return false
			}
		}
		if t.n < len(t.few) {
			t.few[t.n].start, t.few[t.n].end = start, end
			t.n++
			return true
		}
		t.many = make(map[string]struct{}, 4*len(t.few))
		for _, s := range t.few {
			t.many[string(buf[s.start:s.end])] = struct{}{}
		}
	}
	if _, twice := t.many[string(name)]; twice {
		return false
	}
	t.many[string(name)] = struct{}{}
	return true
}
