package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Whose says which voter a data directory belongs to, and of which cluster. It changes nothing, and may be called while the voter is open.
// Errors are [ErrRefused] for a directory without one, and [ErrDamaged].
func Whose(dir string) (cluster string, id RaftID, err error) {
	raft := filepath.Join(dir, raftDir)
	path := filepath.Join(raft, passportFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", RaftID{}, refuse(ErrRefused, "there is no voter in %s (%s is missing): name the data directory of one", dir, path)
	}
	if err != nil {
		return "", RaftID{}, fmt.Errorf("who the voter in %s is cannot be read: %w", dir, err)
	}
	var p passport
	if err = json.Unmarshal(b, &p); err == nil {
		id, err = ParseRaftID(string(p.Node) + "#" + p.Nonce)
	}
	if err != nil {
		return "", RaftID{}, &DamagedError{Path: path, Dir: raft, Node: p.Node, Err: err}
	}
	return p.Cluster, id, nil
}
