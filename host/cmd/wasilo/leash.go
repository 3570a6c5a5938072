package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A node that another process has started for its own purposes is to end with it, however that one ends. It is held on a leash: a
// pipe to its stdin, of which the other process has the only writing end. The system closes that when the process dies,
// and the process itself closes it to end the node gracefully, which works where there are no signals too.

const leashFlag = "leash"

// leashSlipped stands among the signals for the end of stdin. It asks for a graceful end like any first signal, and is never a
// second one that ends at once: a terminal's Ctrl-C may have come directly before.
const leashSlipped = leashSignal("the end of stdin")

type leashSignal string

func (s leashSignal) String() string { return string(s) }

// Signal implements os.Signal.
func (leashSignal) Signal() {}

// followLeash sends leashSlipped when stdin ends. Its goroutine ends with that, or with the process: a read of a pipe cannot be
// called off.
func followLeash(stdin io.Reader, signals chan<- os.Signal) {
	// The log goes to a pipe whose reader is gone by then; that must not end the node before its time.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		select {
		case signals <- leashSlipped:
		default: // it has been told to end already, twice
		}
	}()
}
