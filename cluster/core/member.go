package core

import (
	"errors"
	"strconv"
	"strings"
)

// NodeID names a node for as long as it is configured under that name, across restarts: 1 to [MaxNodeIDLen] of A-Z, a-z,
// 0-9, '.', '_' and '-'. It is part of the node's certificate (spiffe://<cluster>/node/<id>).
type NodeID string

// MaxNodeIDLen bounds a [NodeID], in bytes.
const MaxNodeIDLen = 63

// Why a member was refused.
var (
	ErrInvalidNodeID    = errors.New("a node id is 1 to " + strconv.Itoa(MaxNodeIDLen) + " of A-Z, a-z, 0-9, '.', '_' and '-'")
	ErrInvalidAuthority = errors.New("an authority is host:port, an IPv6 host in brackets, the port 0 to 65535")
	ErrInvalidWeight    = errors.New("a weight is 1 to " + strconv.Itoa(MaxWeight))
	ErrDuplicateNode    = errors.New("two members have the same node id")
)

// CheckNodeID returns nil or [ErrInvalidNodeID].
func CheckNodeID(id NodeID) error {
	if id == "" || len(id) > MaxNodeIDLen {
		return ErrInvalidNodeID
	}
	for i := 0; i < len(id); i++ {
		if c := id[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return ErrInvalidNodeID
		}
	}
	return nil
}

// Member is one node as a topology snapshot shows it.
type Member struct {
	ID NodeID
	// Authority is host:port of the node's link, by which other nodes reach it; port 0 where it has none.
	Authority string
	// Boot tells runs of a node apart: a node that restarted has lost its activations although nothing else changed.
	// 0 where runs are not told apart.
	Boot uint64
	// Weight is the share of actors that the node is to have, relative to the others', as far as the [Strategy] counts weights; at most
	// [MaxWeight]. 0 is 1, and a [Topology] has 0 for both.
	Weight uint16
}

// MaxWeight bounds the weight of a [Member].
const MaxWeight = 1000

// weight is what the weight counts for.
func (m *Member) weight() uint64 { return uint64(max(m.Weight, 1)) }

func (m Member) check() error {
	if err := CheckNodeID(m.ID); err != nil {
		return err
	}
	if m.Weight > MaxWeight {
		return ErrInvalidWeight
	}
	return CheckAuthority(m.Authority)
}

// CheckAuthority returns nil or [ErrInvalidAuthority]. Names are not resolved.
func CheckAuthority(s string) error {
	i := strings.LastIndexByte(s, ':')
	if i < 1 || !validHost(s[:i]) || !validPort(s[i+1:]) {
		return ErrInvalidAuthority
	}
	return nil
}

func validHost(h string) bool {
	if h[0] != '[' {
		for i := 0; i < len(h); i++ {
			if c := h[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
				return false
			}
		}
		return true
	}
	if len(h) < 4 || h[len(h)-1] != ']' {
		return false
	}
	h, zone, zoned := strings.Cut(h[1:len(h)-1], "%")
	if zoned && zone == "" {
		return false
	}
	for i := 0; i < len(zone); i++ {
		if c := zone[i]; !alphanumeric(c) && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	for i := 0; i < len(h); i++ {
		if c := h[i]; c != ':' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return strings.Count(h, ":") >= 2
}

func validPort(p string) bool {
	if p == "" || len(p) > 5 || p[0] == '0' && p != "0" { // one way to write each
		return false
	}
	n := 0
	for i := 0; i < len(p); i++ {
		if p[i] < '0' || p[i] > '9' {
			return false
		}
		n = n*10 + int(p[i]-'0')
	}
	return n <= 65535
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
