package core

import (
	"errors"
	"math"
)

// Raised makes of a table's snapshot the one that a log goes on from which has lost its majority: all sessions have ended, and the generation is
// the next one, so that every epoch to come is above all that the lost voters may have given out. The index stays: an epoch compares by its
// generation first, and entries go on where the log ends.
func Raised(snapshot []byte) ([]byte, error) {
	t, err := ReadSnapshot(snapshot)
	if err != nil {
		return nil, err
	}
	if t.generation == math.MaxUint32 {
		return nil, errors.New("the log has had as many lives as there can be")
	}
	if r := t.apply(&Command{Type: RaiseGeneration, Generation: t.generation + 1}); r.Void != "" {
		return nil, errors.New(r.Void)
	}
	return t.AppendSnapshot(nil), nil
}
