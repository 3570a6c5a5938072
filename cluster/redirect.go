package cluster

import (
	"errors"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// A node that is sent a message for an actor that it does not own says so, and names the owner that it knows: the error is
// ownership_changed, its details are the CBOR map {"owner": ID}. Keys that a reader does not know are ignored. Only the id is
// told: where that node is, the sender's own topology says, so that nobody can be sent to an address of another's choosing.

const redirectOwner = "owner"

// elsewhere refuses a message for an actor of another node.
func elsewhere(id Identity, self, owner NodeID) *abi.Error {
	e := abi.NewError(abi.ErrOwnershipChanged,
		id.Key()+" lives on node "+string(owner)+", as node "+string(self)+" sees it; nothing was done")
	e.Details = appendRedirect(nil, owner)
	return e
}

func appendRedirect(b []byte, owner NodeID) []byte {
	return abi.AppendText(abi.AppendText(abi.AppendMap(b, 1), redirectOwner), string(owner))
}

// redirect returns the owner that a refusal names; false if it names none that could be a node's.
func redirect(err error) (owner NodeID, ok bool) {
	var e *abi.Error
	if !errors.As(err, &e) || e.Code != abi.ErrOwnershipChanged || e.Details == nil {
		return "", false
	}
	return readRedirect(e.Details)
}

func readRedirect(b []byte) (owner NodeID, ok bool) {
	r := abi.NewReader(b)
	for n := r.Map(); n > 0 && r.Err() == nil; n-- {
		if key := r.TextBytes(); string(key) != redirectOwner {
			r.Skip()
			continue
		}
		owner = NodeID(r.Text())
	}
	r.End()
	if r.Err() != nil || core.CheckNodeID(owner) != nil {
		return "", false
	}
	return owner, true
}
