//go:build !linux && !freebsd && !netbsd && !openbsd && !dragonfly && !darwin

package delay

import "time"

func sleep(d time.Duration) { time.Sleep(d) }
