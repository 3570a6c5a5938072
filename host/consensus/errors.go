package consensus

import (
	"errors"
	"fmt"

	"github.com/wasilo/wasilo/cluster/core"
)

// Errors to branch on.
var (
	// ErrNotLeader says that another voter leads, or none: nothing was done. It comes as a [*NotLeaderError].
	ErrNotLeader = errors.New("this voter does not lead")
	// ErrOutcomeUnknown says that what was proposed may be in the log, now or later, or never.
	ErrOutcomeUnknown = errors.New("the outcome is unknown")
	// ErrClosed says that the voter was closed, or has failed: nothing was done.
	ErrClosed = errors.New("the voter is closed")
	// ErrChangeRunning says that the voters are being changed already.
	ErrChangeRunning = errors.New("another change of the voters is under way")
	// ErrEvenVoters says that a change, or a first list, would make an even number of voters, and that this was not asked for.
	ErrEvenVoters = errors.New("an even number of voters")
	// ErrRefused says that a change of the voters, or a start, makes no sense as it is: the text says why and what to do.
	ErrRefused = errors.New("refused")
	// ErrDamaged says that what is on disk does not read as it was written. It comes as a [*DamagedError].
	ErrDamaged = errors.New("the voter's log is damaged")
	// ErrDisk says that the disk does not take what has to be written. It comes as a [*DiskError].
	ErrDisk = errors.New("the voter's disk failed")
)

// NotLeaderError is [ErrNotLeader], with the voter that leads where it is known.
type NotLeaderError struct {
	Leader    core.NodeID // "" if none is known
	Authority string      // of the leader's link
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return "this voter does not lead, and knows of no leader: there is none while a majority of the voters cannot be reached"
	}
	return fmt.Sprintf("this voter does not lead: node %s at %s does", e.Leader, e.Authority)
}

// Is makes errors.Is work with [ErrNotLeader].
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// DamagedError is a file of the voter that cannot be used.
type DamagedError struct {
	Path string      // the file, or the directory where it cannot be told which
	Dir  string      // the directory of the voter, to be moved away
	Node core.NodeID // the node it belongs to
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %v. This voter can promise nothing about what it has lost. While the other voters are a majority: "+
		"move %s away, start the node again, and on any node run `wasilo voters rm %s --even` and then `wasilo voters add %s`",
		e.Path, e.Err, e.Dir, e.Node, e.Node)
}

// Unwrap returns what was found.
func (e *DamagedError) Unwrap() error { return e.Err }

// Is makes errors.Is work with [ErrDamaged].
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// DiskError is a read or a write that the disk refused. The voter has stopped.
type DiskError struct {
	Path string // what was to be read or written
	Full bool   // there is no room, or no quota
	Err  error
}

func (e *DiskError) Error() string {
	if e.Full {
		return fmt.Sprintf("the voter has stopped: the disk that holds %s is full (%v). Nothing was acknowledged that is not on disk. "+
			"Make room there and start the node again", e.Path, e.Err)
	}
	return fmt.Sprintf("the voter has stopped: %s cannot be read or written: %v. Nothing was acknowledged that is not on disk. "+
		"Mend the disk and start the node again, or replace the voter", e.Path, e.Err)
}

// Unwrap returns what the system said.
func (e *DiskError) Unwrap() error { return e.Err }

// Is makes errors.Is work with [ErrDisk].
func (e *DiskError) Is(target error) bool { return target == ErrDisk }

// refuse makes an error that is [ErrRefused], or another sentinel.
func refuse(kind error, format string, args ...any) error {
	return &refusedError{kind, fmt.Sprintf(format, args...)}
}

type refusedError struct {
	kind error
	text string
}

func (e *refusedError) Error() string        { return e.text }
func (e *refusedError) Is(target error) bool { return target == e.kind || target == ErrRefused }
