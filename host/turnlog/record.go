package turnlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/wasilo/wasilo/abi"
)

// What happened.
const (
	// Opened begins a run of a node: activations of earlier records of the same node are gone.
	Opened = "opened"
	// Enabled: the instance stands, and the activation takes turns from here on.
	Enabled = "enabled"
	// Checked: it was found that the activation may run, before a turn or within one.
	Checked = "checked"
	// Answered: after the turn's last access to state the activation still was one that may run; its reply and its
	// messages leave. This is where the turn counts as done: how much later they leave does not matter.
	Answered = "answered"
)

// Record is one line of the log.
type Record struct {
	At         int64  `json:"at"`   // CLOCK_MONOTONIC, nanoseconds
	Node       string `json:"node"` // its id
	What       string `json:"what"`
	Actor      string `json:"actor,omitempty"` // kind/id; empty in Opened alone, as are the following
	Generation uint32 `json:"gen,omitempty"`   // of the epoch
	Index      uint64 `json:"index,omitempty"`
	Activation uint64 `json:"activation,omitempty"` // counts the activations of one run of the node, from 1
}

// Epoch is that of the lease under which the activation ran.
func (r *Record) Epoch() abi.Epoch { return abi.Epoch{Generation: r.Generation, Index: r.Index} }

// Read returns the records of one log, in their order. What stands after the last line's end was being written when the
// machine went down, and is left out.
func Read(r io.Reader) (all []Record, err error) {
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		var rec Record
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&rec); err != nil {
			return all, fmt.Errorf("line %d is no record of a turn log: %w", n, err)
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return all, fmt.Errorf("line %d: something follows the record", n)
		}
		if err := rec.check(); err != nil {
			return all, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, rec)
	}
}

func (r *Record) check() error {
	switch r.What {
	case Opened:
		return nil
	case Enabled, Checked, Answered:
		if r.Actor == "" || r.Activation == 0 {
			return fmt.Errorf("%q without an actor or an activation", r.What)
		}
		return nil
	}
	return fmt.Errorf("there is no %q; a later version may know it", r.What)
}
