//go:build race

package host

// raceExtra is what the race detector takes beside what it watches.
const raceExtra = 256 * mb
