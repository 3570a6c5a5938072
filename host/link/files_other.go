//go:build !unix

package link

// maxFiles is not known: the system has no such limit, or none that it tells.
func maxFiles() uint64 { return 0 }
