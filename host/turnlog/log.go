package turnlog

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Log appends records to a file.
type Log struct {
	node   string
	origin time.Time // a moment, and
	mono   int64     // the same by CLOCK_MONOTONIC
	file   *os.File
	serial atomic.Uint64
	failed func(error)
	once   sync.Once
}

// Open appends to a file, which is made if need be, and writes down that a run of the node begins. failed (nil: nobody) is told
// once that a record could not be written: a log that has gaps proves less than it seems to.
func Open(name, node string, failed func(error)) (*Log, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("turn log: %w", err)
	}
	if failed == nil {
		failed = func(error) {}
	}
	l := &Log{node: node, file: f, failed: failed}
	l.origin, l.mono = clocks()
	if err := l.write(Record{At: l.mono, Node: node, What: Opened}); err != nil {
		f.Close()
		return nil, fmt.Errorf("turn log: %w", err)
	}
	return l, nil
}

// clocks reads both clocks at one moment.
func clocks() (time.Time, int64) {
	// A thread may be put aside between the two: of a few tries the one that took least is right within its own length.
	var at time.Time
	var mono, least int64
	for i := range 10 {
		before := Monotonic()
		now := time.Now()
		if took := Monotonic() - before; i == 0 || took < least {
			at, mono, least = now, before+took/2, took
		}
	}
	return at, mono
}

// Close closes the file. Nothing may be recorded after it.
func (l *Log) Close() error { return l.file.Close() }

// Enabled records that an activation takes turns from now on, and returns the number by which the others know it.
func (l *Log) Enabled(id abi.Identity, epoch abi.Epoch) (activation uint64) {
	activation = l.serial.Add(1)
	l.record(time.Now(), Enabled, id, epoch, activation)
	return activation
}

// Checked records that a check passed. at is a time not after that by which it judged.
func (l *Log) Checked(at time.Time, id abi.Identity, epoch abi.Epoch, activation uint64) {
	l.record(at, Checked, id, epoch, activation)
}

// Answered records that the outcome of a turn is about to leave. at is a time not after that of the check which came after the turn's
// last access to state.
func (l *Log) Answered(at time.Time, id abi.Identity, epoch abi.Epoch, activation uint64) {
	l.record(at, Answered, id, epoch, activation)
}

func (l *Log) record(at time.Time, what string, id abi.Identity, epoch abi.Epoch, activation uint64) {
	err := l.write(Record{At: l.mono + int64(at.Sub(l.origin)), Node: l.node, What: what, Actor: id.Key(),
		Generation: epoch.Generation, Index: epoch.Index, Activation: activation})
	if err != nil {
		l.once.Do(func() { l.failed(fmt.Errorf("turn log: %w", err)) })
	}
}

func (l *Log) write(r Record) error {
	line, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	_, err = l.file.Write(append(line, '\n'))
	return err
}
