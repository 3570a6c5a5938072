package consensus

import (
	"fmt"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// What nodes ask voters over the link: `consensus.feed` for what the log says, and `consensus.propose` to have something put into it.
// Each question and answer is a CBOR array that begins with a version.
const (
	feedService    = "consensus.feed"
	proposeService = "consensus.propose"

	wireVersion = 1
	pageBytes   = 256 << 10 // of entries, or of a snapshot, in one answer
)

// question asks what comes after an index of a generation, or for a page of a snapshot that was begun.
type question struct {
	generation uint32
	after      uint64
	snapshot   uint64 // index of the one that was begun; 0: none
	offset     uint64
}

// answer is entries, or a page of a snapshot; neither: there is nothing new.
type answer struct {
	generation uint32
	index      uint64 // of the voter's table
	records    []record
	snapshot   uint64 // index of the one that page is of; 0: none
	offset     uint64
	page       []byte
	more       bool
	leader     core.Member // "" if none is known
}

func (q *question) append(b []byte) []byte {
	b = abi.AppendUint(abi.AppendArray(b, 5), wireVersion)
	b = abi.AppendUint(abi.AppendUint(b, uint64(q.generation)), q.after)
	return abi.AppendUint(abi.AppendUint(b, q.snapshot), q.offset)
}

func readQuestion(b []byte) (q question, err error) {
	r := abi.NewReader(b)
	versioned(&r, 5)
	q = question{generation: r.Uint32(), after: r.Uint(), snapshot: r.Uint(), offset: r.Uint()}
	return q, finish(&r, "a question to the log")
}

func (a *answer) append(b []byte) []byte {
	b = abi.AppendUint(abi.AppendArray(b, 10), wireVersion)
	b = abi.AppendUint(abi.AppendUint(b, uint64(a.generation)), a.index)
	b = abi.AppendArray(b, len(a.records))
	for _, r := range a.records {
		b = abi.AppendBytes(abi.AppendUint(abi.AppendArray(b, 2), r.index), r.entry)
	}
	b = abi.AppendUint(abi.AppendUint(b, a.snapshot), a.offset)
	b = abi.AppendBool(abi.AppendBytes(b, a.page), a.more)
	return abi.AppendText(abi.AppendText(b, string(a.leader.ID)), a.leader.Authority)
}

func readAnswer(b []byte) (a answer, err error) {
	r := abi.NewReader(b)
	versioned(&r, 10)
	a.generation, a.index = r.Uint32(), r.Uint()
	for n := r.Array(); n > 0 && r.Err() == nil; n-- {
		if r.Array() != 2 {
			r.Fail("a record is an index and an entry")
		}
		a.records = append(a.records, record{r.Uint(), r.Bytes()})
	}
	a.snapshot, a.offset, a.page, a.more = r.Uint(), r.Uint(), r.Bytes(), r.Bool()
	a.leader = core.Member{ID: core.NodeID(r.Text()), Authority: r.Text()}
	return a, finish(&r, "an answer of the log")
}

// proposal is commands that a node wants in the log.
func appendProposal(b []byte, entry []byte) []byte {
	return abi.AppendBytes(abi.AppendUint(abi.AppendArray(b, 2), wireVersion), entry)
}

func readProposal(b []byte) (entry []byte, err error) {
	r := abi.NewReader(b)
	versioned(&r, 2)
	entry = r.Bytes()
	return entry, finish(&r, "a proposal")
}

// outcome is what became of a proposal: results, or, where this voter does not lead, who does.
type outcome struct {
	led     bool
	results []byte
	leader  core.Member
}

func (o *outcome) append(b []byte) []byte {
	b = abi.AppendBool(abi.AppendUint(abi.AppendArray(b, 5), wireVersion), o.led)
	b = abi.AppendBytes(b, o.results)
	return abi.AppendText(abi.AppendText(b, string(o.leader.ID)), o.leader.Authority)
}

func readOutcome(b []byte) (o outcome, err error) {
	r := abi.NewReader(b)
	versioned(&r, 5)
	o.led, o.results = r.Bool(), r.Bytes()
	o.leader = core.Member{ID: core.NodeID(r.Text()), Authority: r.Text()}
	return o, finish(&r, "the outcome of a proposal")
}

func versioned(r *abi.Reader, items int) {
	n, v := r.Array(), r.Uint()
	switch {
	case r.Err() != nil:
	case v > wireVersion:
		r.Fail(fmt.Sprintf("it is of version %d, and this node knows up to %d", v, wireVersion))
	case n != items || v == 0:
		r.Fail(fmt.Sprintf("it has %d items of version %d", n, v))
	}
}

func finish(r *abi.Reader, what string) error {
	r.End()
	if err := r.Err(); err != nil {
		return abi.NewError(abi.ErrInvalidArgument, what+" cannot be read: "+err.Error())
	}
	return nil
}
