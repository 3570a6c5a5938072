//go:build !linux

package host

import "time"

// uptime is Go's own clock, which may stand still while the machine is suspended.
func uptime() time.Duration { return time.Since(processStart) }

var processStart = time.Now()
