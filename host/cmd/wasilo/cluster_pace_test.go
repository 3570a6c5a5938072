//go:build !race

package main

import (
	"time"

	"github.com/wasilo/wasilo/serfwatch"
)

// How much TestCluster asks of the machine.
const (
	identities = 1000
	pace       = string(serfwatch.Fast)
	hangs      = time.Minute // then something that ends in its own time counts as never ending
)
