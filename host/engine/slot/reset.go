package slot

// Reset makes the slot the image again where it lies, for a user who keeps the slot for the next one. It reports whether it is: what
// grew, or has more than [Options].KeepDirty pages of its own, is to be given back. So is one whose own pages are not known, and a copy in
// the heap where memories are mapped: nobody counts what such a one holds.
func (s *Slot) Reset() bool {
	p := s.pool
	if p == nil || len(s.buf) != len(p.image) {
		return false
	}
	dirty := 0
	err := s.Dirty(func(offset uint32, page []byte) bool {
		p.restore(int(offset/Page), page)
		dirty++
		return dirty <= p.opt.KeepDirty
	})
	s.refused = false
	return err == nil && dirty <= p.opt.KeepDirty && s.keepable()
}

// ResetPages is Reset for a user who knows which pages differ: those that [Slot.Dirty] told it since it wrote last.
func (s *Slot) ResetPages(offsets []uint32) bool {
	p := s.pool
	if p == nil || len(s.buf) != len(p.image) || len(offsets) > p.opt.KeepDirty || !s.keepable() {
		return false
	}
	for _, at := range offsets {
		p.restore(int(at/Page), s.buf[at:uint64(at)+Page])
	}
	s.refused = false
	return true
}

// keepable reports whether the slot, as Dirty found it, has few enough pages of its own. Those count that do not differ: they stay, and
// what the users of a slot wrote adds up.
func (s *Slot) keepable() bool {
	if s.pool.maps != nil && !s.place.mapped() && len(s.pool.image) > 0 {
		return false
	}
	return s.own >= 0 && s.own <= s.pool.opt.KeepDirty
}
