//go:build !nextversion

package link

// The versions of the protocol that this package speaks.
const (
	minVersion = 1
	maxVersion = 1
)
