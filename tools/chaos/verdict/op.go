package verdict

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/wasilo/wasilo/abi"
)

// What a client asks of a register.
const (
	Read  = "read"
	Write = "write"
	Cas   = "cas"
)

// Outcomes, as the client knows them.
const (
	OK      = "ok"
	Refused = "refused" // it was certainly not carried out
	Unknown = "unknown" // it was, or was not, or will be
	Failed  = "failed"  // an answer that a register never gives, nor a cluster that only has lost nodes
)

// Op is one attempt at one request.
type Op struct {
	Client  int    `json:"client"`
	Request uint64 `json:"request"` // attempts at the same request have the same
	Probe   bool   `json:"probe,omitempty"`
	Gateway string `json:"gateway"`
	Actor   string `json:"actor"` // kind/id
	Do      string `json:"do"`
	Old     string `json:"old,omitempty"` // of a cas
	New     string `json:"new,omitempty"` // of a write or a cas; no two requests of a history have the same
	Call    int64  `json:"call"`          // CLOCK_MONOTONIC, nanoseconds
	Return  int64  `json:"return"`
	Outcome string `json:"outcome"`
	Code    string `json:"code,omitempty"` // of an error
	Error   string `json:"error,omitempty"`

	// With OK: what was answered.
	Value      string `json:"value,omitempty"` // after the turn
	Generation uint32 `json:"gen,omitempty"`   // of the epoch
	Index      uint64 `json:"index,omitempty"`
	N          uint64 `json:"n,omitempty"`     // turns of the epoch, this one included
	Began      string `json:"began,omitempty"` // the value with which the epoch began
}

// Epoch is that under which the answer was given.
func (o *Op) Epoch() abi.Epoch { return abi.Epoch{Generation: o.Generation, Index: o.Index} }

// Span is a fault, from the moment before it was made until everything was in order again, as far as the one who made it knows.
type Span struct {
	What    string   `json:"what"`
	Kind    string   `json:"kind"`
	Nodes   []string `json:"nodes"`
	From    int64    `json:"from"` // as in Op
	To      int64    `json:"to"`
	Violent bool     `json:"violent"` // a session may end by it, and what it knew be lost
}

// WriteLines writes one JSON object a line.
func WriteLines[T any](w io.Writer, all []T) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for i := range all {
		if err := enc.Encode(&all[i]); err != nil {
			return err
		}
	}
	return b.Flush()
}

// ReadLines reads what WriteLines wrote. A last line without an end is left out: whoever wrote it was killed.
func ReadLines[T any](r io.Reader) (all []T, err error) {
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var v T
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, v)
	}
}
