//go:build !linux

package main

import "time"

var started = time.Now()

// threadTime is what time has passed, where the thread's own is not to be had.
func threadTime() time.Duration { return time.Since(started) }
