//go:build !unix

package link

// tryWrite writes nothing: the goroutine that may wait does it.
func (s *sock) tryWrite(uintptr) bool { return true }
