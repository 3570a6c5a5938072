//go:build nextversion

package link

// The versions of a wasilo to come, which still speaks that of today: tools/chaos upgrades a cluster to it, node by node.
const (
	minVersion = 1
	maxVersion = 2
)
