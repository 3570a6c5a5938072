//go:build race

package main

import (
	"time"

	"github.com/wasilo/wasilo/serfwatch"
)

// With the race detector it takes minutes to compile a Go module, and nodes that are busy with it answer no gossip for a while.
const (
	identities = 200
	pace       = string(serfwatch.Local)
	hangs      = 5 * time.Minute
)
