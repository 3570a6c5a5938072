package host

import (
	"time"

	"golang.org/x/sys/unix"
)

// uptime is a clock that goes on while the machine is suspended, unlike Go's own.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Since(processStart)
	}
	return time.Duration(ts.Nano())
}

var processStart = time.Now()
