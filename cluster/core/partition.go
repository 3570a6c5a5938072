package core

import (
	"github.com/cespare/xxhash/v2"

	"github.com/wasilo/wasilo/abi"
)

// Identity names a virtual actor.
type Identity = abi.Identity

// Partitions is how many partitions identities are hashed to. It cannot change during a cluster's life.
const Partitions = 1024

// Partition is a number below [Partitions].
type Partition uint16

// PartitionOf returns the partition of an identity: xxhash64 of its key "kind/identity", modulo [Partitions].
func PartitionOf(id Identity) Partition {
	var key [abi.MaxKindLen + 1 + abi.MaxIdentityLen]byte // Key would allocate on every activation
	n := copy(key[:], id.Kind())
	key[n] = '/'
	n++
	n += copy(key[n:], id.ID())
	return Partition(xxhash.Sum64(key[:n]) % Partitions)
}
