//go:build linux || freebsd || netbsd || openbsd || dragonfly

package delay

import (
	"syscall"
	"time"
)

func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	for syscall.Nanosleep(&ts, &ts) == syscall.EINTR { // ts is what is left
	}
}
