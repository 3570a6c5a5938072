package core

import "time"

// The times of the watch for a suspension of the machine.
const (
	// SuspendLook is how often it is looked.
	SuspendLook = 50 * time.Millisecond
	// SuspendMost is by how much the clock that goes on may get ahead of the monotonic one before that counts as a suspension.
	SuspendMost = 100 * time.Millisecond
)

// Suspends tells that the machine was suspended, by a clock that goes on meanwhile: the one by which the session's time is counted stands still.
// The zero value begins with the first look.
type Suspends struct {
	began bool
	seen  time.Duration // how far ahead the other clock was when it began, or at the last suspension
}

// Look takes by how much the other clock is ahead by now, and returns for how long the machine was suspended; 0: it was not. Short suspensions
// add up to one.
func (s *Suspends) Look(ahead time.Duration) time.Duration {
	if !s.began {
		s.began, s.seen = true, ahead
	}
	stood := ahead - s.seen
	if stood <= SuspendMost {
		return 0
	}
	s.seen = ahead
	return stood
}
