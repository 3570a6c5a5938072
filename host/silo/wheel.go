package silo

import "time"

// wheelSlots is how far a wheel goes, in looks; what is due later is looked at on the way, once a round.
const wheelSlots = 64

// wheel says which activations of a shard are to be looked at next: a ring of lists, one a look. So a look costs as much as there is
// due, however many activations there are. The shard's lock guards it.
type wheel struct {
	slots [wheelSlots]*entry
	now   int
}

// spoke is an entry's place in a wheel.
type spoke struct {
	prev, next *entry
	slot       int // from 1; 0: in none
}

// put enters e to be looked at in some looks' time.
func (w *wheel) put(e *entry, looks int) {
	slot := (w.now + min(max(looks, 1), wheelSlots-1)) % wheelSlots
	e.spoke = spoke{next: w.slots[slot], slot: slot + 1}
	if e.spoke.next != nil {
		e.spoke.next.spoke.prev = e
	}
	w.slots[slot] = e
}

// remove takes e out, if it is in.
func (w *wheel) remove(e *entry) {
	if e.spoke.slot == 0 {
		return
	}
	if e.spoke.next != nil {
		e.spoke.next.spoke.prev = e.spoke.prev
	}
	if e.spoke.prev != nil {
		e.spoke.prev.spoke.next = e.spoke.next
	} else {
		w.slots[e.spoke.slot-1] = e.spoke.next
	}
	e.spoke = spoke{}
}

// due goes on by one look, and takes out what is due.
func (w *wheel) due(into []*entry) []*entry {
	w.now = (w.now + 1) % wheelSlots
	for e := w.slots[w.now]; e != nil; e = w.slots[w.now] {
		w.remove(e)
		into = append(into, e)
	}
	return into
}

// looks returns in how many looks d has passed.
func looks(d, every time.Duration) int { return int(min((d+every-1)/every, wheelSlots)) }
