//go:build !linux

package sleep

// systemMemory is nil: chunks are Go slices.
func systemMemory() *sysMem { return nil }
