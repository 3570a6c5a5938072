package consensus

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/wasilo/wasilo/abi"
)

// hello is what a voter says of itself to others: before there is a log, and when one has lost sight of it.
type hello struct {
	id      RaftID
	list    string   // its own list of voters, as the operator gave it, in canonical form; "" for none
	begun   bool     // it has a configuration
	index   uint64   // of the configuration
	members []string // raft ids in the configuration
	last    uint64   // index of its last entry
	failed  bool     // it has stopped by itself; an older one does not say so
}

// Keys of a hello. Append, never reorder, never reuse.
const (
	helloFormat  = 0
	helloID      = 1
	helloList    = 2
	helloHash    = 3
	helloBegun   = 4
	helloIndex   = 5
	helloMembers = 6
	helloLast    = 7
	helloFailed  = 8
)

const maxVoters = 64 // of any configuration; a useful one has three or five

func listHash(list string) string {
	sum := sha256.Sum256([]byte(list))
	return hex.EncodeToString(sum[:8])
}

func appendHello(b []byte, h *hello) []byte {
	b = abi.AppendMap(b, 9)
	b = abi.AppendUint(abi.AppendUint(b, helloFormat), formatVersion)
	b = abi.AppendText(abi.AppendUint(b, helloID), h.id.String())
	b = abi.AppendText(abi.AppendUint(b, helloList), h.list)
	b = abi.AppendText(abi.AppendUint(b, helloHash), listHash(h.list))
	b = abi.AppendBool(abi.AppendUint(b, helloBegun), h.begun)
	b = abi.AppendUint(abi.AppendUint(b, helloIndex), h.index)
	b = abi.AppendArray(abi.AppendUint(b, helloMembers), len(h.members))
	for _, m := range h.members {
		b = abi.AppendText(b, m)
	}
	b = abi.AppendUint(abi.AppendUint(b, helloLast), h.last)
	return abi.AppendBool(abi.AppendUint(b, helloFailed), h.failed)
}

// readHello reads what another voter says. Keys that it does not know are those of a later version.
func readHello(b []byte) (hello, error) {
	var h hello
	var hash string
	r := abi.NewReader(b)
	var seen uint64
	for n := r.Map(); n > 0 && r.Err() == nil; n-- {
		key := r.Uint()
		if key < 64 {
			if seen&(1<<key) != 0 {
				r.Fail("key " + strconv.FormatUint(key, 10) + " stands twice")
			}
			seen |= 1 << key
		}
		switch key {
		case helloFormat:
			if v := r.Uint(); v != formatVersion && r.Err() == nil {
				r.Fail("a voter of format " + strconv.FormatUint(v, 10) + "; this one knows " + strconv.Itoa(formatVersion))
			}
		case helloID:
			text := r.Text()
			id, err := ParseRaftID(text)
			if err != nil && r.Err() == nil {
				r.Fail(err.Error())
			}
			h.id = id
		case helloList:
			h.list = r.Text()
		case helloHash:
			hash = r.Text()
		case helloBegun:
			h.begun = r.Bool()
		case helloIndex:
			h.index = r.Uint()
		case helloMembers:
			k := r.Array()
			if k > maxVoters {
				r.Fail("more than " + strconv.Itoa(maxVoters) + " voters")
			}
			for ; k > 0 && r.Err() == nil; k-- {
				h.members = append(h.members, r.Text())
			}
		case helloLast:
			h.last = r.Uint()
		case helloFailed:
			h.failed = r.Bool()
		default:
			r.Skip()
		}
	}
	r.End()
	if r.Err() == nil && h.id.Node == "" {
		r.Fail("a voter says who it is (key 1)")
	}
	if r.Err() == nil && hash != listHash(h.list) {
		r.Fail("the hash of the list of voters is not that of the list")
	}
	return h, r.Err()
}
