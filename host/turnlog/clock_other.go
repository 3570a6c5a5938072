//go:build !linux

package turnlog

import "time"

// monotonic is the wall clock where no monotonic one is shared by processes: good enough to read one log by.
func monotonic() int64 { return time.Now().UnixNano() }
