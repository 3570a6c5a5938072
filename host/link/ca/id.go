package ca

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ID names one node of one cluster, as its certificate does.
type ID struct{ Cluster, Node string }

// MaxNameLen bounds the name of a cluster and the id of a node, in bytes.
const MaxNameLen = 63

// Why a name was refused. Each is wrapped with the name.
var (
	ErrInvalidNode    = fmt.Errorf("a node id is 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-'", MaxNameLen)
	ErrInvalidCluster = fmt.Errorf("a cluster's name is 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-', with no dot at either end and no two in a row", MaxNameLen)
	ErrInvalidURI     = errors.New("a node's name is spiffe://CLUSTER/node/ID")
)

// Check returns nil, or what is wrong with one of the names.
func (id ID) Check() error {
	if err := CheckCluster(id.Cluster); err != nil {
		return err
	}
	if !validName(id.Node) {
		return fmt.Errorf("node id %q: %w", id.Node, ErrInvalidNode)
	}
	return nil
}

// CheckCluster returns nil, or what is wrong with the name of a cluster. It stands where a URI has its host, which is why it is
// narrower than a node's id.
func CheckCluster(name string) error {
	if !validName(name) || name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..") {
		return fmt.Errorf("cluster %q: %w", name, ErrInvalidCluster)
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > MaxNameLen {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

const uriScheme, uriPath = "spiffe", "/node/"

// String returns spiffe://CLUSTER/node/ID.
func (id ID) String() string { return uriScheme + "://" + id.Cluster + uriPath + id.Node }

func (id ID) url() *url.URL {
	return &url.URL{Scheme: uriScheme, Host: id.Cluster, Path: uriPath + id.Node}
}

// ParseID reads what [ID.String] writes, and nothing else: one name has one spelling.
func ParseID(uri string) (ID, error) {
	rest, ok := strings.CutPrefix(uri, uriScheme+"://")
	cluster, node, found := strings.Cut(rest, uriPath)
	id := ID{Cluster: cluster, Node: node}
	if !ok || !found {
		return ID{}, fmt.Errorf("%q: %w", shorten(uri), ErrInvalidURI)
	}
	if err := id.Check(); err != nil {
		return ID{}, err
	}
	return id, nil
}

// shorten makes text from a certificate fit for a line of a log.
func shorten(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
