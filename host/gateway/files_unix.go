//go:build unix

package gateway

import "syscall"

// maxFiles is how many files the process may have open, 0 if that is not known.
func maxFiles() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur <= 0 {
		return 0
	}
	return uint64(l.Cur)
}
