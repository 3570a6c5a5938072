//go:build !race

package host

const raceExtra = 0
