package host

import (
	"fmt"
	"path/filepath"

	"github.com/wasilo/wasilo/cluster"
)

// statusFile is where a node's readiness is kept, in its directory of data.
const statusFile = "cluster-status.json"

// StatusStore returns where a node with this directory of data keeps the readiness of its cluster.
func StatusStore(dataDir string) cluster.StatusStore {
	return cluster.FileStatus{Path: filepath.Join(dataDir, statusFile)}
}

// readiness decides by what the last start, or an operator, has left whether this node may be one of a cluster. It sets cfg.Status. An
// error is an earlier failure that nobody has cleared, or a store that fails. A node whose cluster is disabled is alone, and runs its
// actors by itself.
func (n *Node) readiness(cfg *cluster.Config) (alone bool, err error) {
	if n.cfg.Net.Link == "" {
		return true, nil // there is no cluster that could be ready
	}
	if n.cfg.DataDir == "" {
		return false, nil // it is kept in memory, where nothing is yet
	}
	store := StatusStore(n.cfg.DataDir)
	st, err := store.Load()
	if err != nil {
		return false, &cluster.BootstrapError{Kind: cluster.StatusStoreFailed, Err: fmt.Errorf("load: %w", err)}
	}
	admitted, err := st.Admits()
	if err != nil {
		return false, err
	}
	if !admitted {
		n.log.Warn("the cluster is disabled on this node, which runs its actors alone; to enable it: `wasilo status clear`, then start it again",
			"reason", st.Reason, "data", n.cfg.DataDir)
		return true, nil
	}
	cfg.Status = store
	return false, nil
}
