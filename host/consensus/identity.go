package consensus

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// RaftID names a voter for as long as it has its disk and the log is not recovered: NODE#NONCE.
type RaftID struct {
	Node  core.NodeID
	Nonce uint64
}

// ParseRaftID reads what String writes, and nothing else.
func ParseRaftID(s string) (RaftID, error) {
	node, nonce, ok := strings.Cut(s, "#")
	n, err := strconv.ParseUint(nonce, 16, 64)
	id := RaftID{core.NodeID(node), n}
	if !ok || err != nil || core.CheckNodeID(id.Node) != nil || id.String() != s {
		return RaftID{}, fmt.Errorf("%.100q is no voter: one is NODE#NONCE, the nonce of 16 digits 0-9 and a-f", s)
	}
	return id, nil
}

// String returns NODE#NONCE.
func (id RaftID) String() string { return fmt.Sprintf("%s#%016x", id.Node, id.Nonce) }

func (id RaftID) server() raft.ServerID { return raft.ServerID(id.String()) }

// address is what raft calls an address: the raft id that is meant, and where it was last known to be.
func (id RaftID) address(authority string) raft.ServerAddress {
	return raft.ServerAddress(id.String() + "@" + authority)
}

func parseAddress(a raft.ServerAddress) (RaftID, string, error) {
	name, authority, ok := strings.Cut(string(a), "@")
	if !ok {
		return RaftID{}, "", fmt.Errorf("%.200q is no voter's address", string(a))
	}
	id, err := ParseRaftID(name)
	return id, authority, err
}

// formatVersion is that of the directory: the files in it, what they hold, and what voters say to each other over streams.
const formatVersion = 1

// passport is voter.json: whose disk this is.
type passport struct {
	Format  int         `json:"format"`
	Cluster string      `json:"cluster"`
	Node    core.NodeID `json:"node"`
	Nonce   string      `json:"nonce"` // 16 hexadecimal digits
}

const (
	passportFile = "voter.json"
	// nextFile is the passport that a recovery gives the voter. It counts once the newest snapshot names it: see [disk.adopt].
	nextFile = "voter.next.json"
)

// readPassport reads whose directory this is, or is to be; false if it is nobody's yet. The directory is locked by the caller.
func readPassport(dir, file, clusterName string, node core.NodeID) (id RaftID, found bool, err error) {
	path := filepath.Join(dir, file)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return RaftID{}, false, nil
	}
	if err != nil {
		return RaftID{}, false, fmt.Errorf("who this voter is cannot be read: %w", err)
	}
	id, err = parsePassport(b, path, dir, clusterName, node)
	return id, true, err
}

func parsePassport(b []byte, path, dir, clusterName string, node core.NodeID) (RaftID, error) {
	damaged := func(err error) (RaftID, error) {
		return RaftID{}, &DamagedError{Path: path, Dir: dir, Node: node, Err: err}
	}
	var p passport
	if err := json.Unmarshal(b, &p); err != nil {
		return damaged(err)
	}
	switch {
	case p.Format > formatVersion:
		return RaftID{}, refuse(ErrRefused, "%s is of format %d, which a newer wasilo has written; this one knows formats up to %d. "+
			"Run the newer one, or move %s away and replace the voter", path, p.Format, formatVersion, dir)
	case p.Format < 1:
		return damaged(fmt.Errorf("format %d", p.Format))
	case p.Cluster != clusterName:
		return RaftID{}, refuse(ErrRefused, "%s belongs to a voter of cluster %q; this node is of %q. "+
			"Name the data directory of this cluster, or move %s away if that log is not needed any more", path, p.Cluster, clusterName, dir)
	case p.Node != node:
		return RaftID{}, refuse(ErrRefused, "%s belongs to node %q; this is node %q. "+
			"Every node needs a data directory of its own: name the right one, or move %s away if that log is not needed any more",
			path, p.Node, node, dir)
	}
	id, err := ParseRaftID(string(p.Node) + "#" + p.Nonce)
	if err != nil {
		return damaged(err)
	}
	return id, nil
}

// newPassport draws a nonce and writes it down, durably, before anybody can have heard of it. The log is open by then: a directory with
// a passport and without a log has lost it.
func newPassport(dir, file, clusterName string, node core.NodeID) (RaftID, error) {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	id := RaftID{node, binary.BigEndian.Uint64(nonce[:])}
	b, err := json.MarshalIndent(passport{Format: formatVersion, Cluster: clusterName, Node: node, Nonce: fmt.Sprintf("%016x", id.Nonce)}, "", "\t")
	if err == nil {
		err = writeDurably(filepath.Join(dir, file), append(b, '\n'))
	}
	if err != nil {
		return RaftID{}, fmt.Errorf("who this voter is cannot be written: %w", err)
	}
	return id, nil
}

// writeDurably writes a file of mode 0600 so that it is there whole, or not at all, whatever happens.
func writeDurably(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}
