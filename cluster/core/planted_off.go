//go:build !planted

package core

// planted reports whether a fault was put in on purpose, to show that the simulator finds it; see planted_on.go. It never is in a binary
// that anybody runs.
func planted(bug) bool { return false }
