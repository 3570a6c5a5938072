//go:build !linux

package turnlog

import "time"

// Monotonic is the wall clock where no monotonic one is shared by processes: good enough to read one log by.
func Monotonic() int64 { return time.Now().UnixNano() }
