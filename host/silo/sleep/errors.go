package sleep

import (
	"errors"
	"fmt"

	"github.com/wasilo/wasilo/abi"
)

var (
	// ErrFull: there is no room for another sleeper; see [FullError].
	ErrFull = errors.New("no room for another sleeping actor")
	// ErrTooLarge: the state is larger than [MaxState].
	ErrTooLarge = errors.New("a sleeping actor keeps at most 128 MiB")
	// ErrInvalid: the sleeper has no identity.
	ErrInvalid = errors.New("a sleeper without identity")
	// ErrNewer: there is a sleeper of the identity that was kept under a later epoch.
	ErrNewer = errors.New("there is a newer state of the sleeping actor")
	// ErrTwice: the identity is staged already.
	ErrTwice = errors.New("the actor is staged already")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("the sleepers are closed")
)

// Why a record was refused, in a [DamagedError]. What the system said of the spill file comes there too.
var (
	errShort    = errors.New("the record is cut off")
	errHead     = errors.New("the record's header is damaged")
	errChunks   = errors.New("the partition has 4 million chunks")
	errChecksum = errors.New("the state's checksum is wrong")
)

// FullError says how full it is. It is an [ErrFull].
type FullError struct {
	Bytes int64 // in memory
	Max   int64 // Config.MaxBytes; 0: none
	Err   error // why memory was not to be had, or why nothing was spilled; or nil
}

func (e *FullError) Error() string {
	msg := fmt.Sprintf("%v: %d bytes in memory", ErrFull, e.Bytes)
	if e.Max > 0 {
		msg += fmt.Sprintf(" of at most %d", e.Max)
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

// Is makes it an [ErrFull].
func (e *FullError) Is(target error) bool { return target == ErrFull }

func (e *FullError) Unwrap() error { return e.Err }

// DamagedError says that an actor's state was there and is lost.
type DamagedError struct {
	Identity  abi.Identity // whose; of a record that cannot be read, whose hash it was filed under
	Partition uint16
	Where     string // "memory" or "the spill file"
	Err       error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the state of %s, which slept in %s (partition %d), is lost: %v", e.Identity, e.Where, e.Partition, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }
