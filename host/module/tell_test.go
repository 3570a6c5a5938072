package module

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A load that takes long is spoken of while it lasts, and not after.
func TestALongLoadIsSpokenOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said logs
		c := New(Config[*program]{Dir: "actors", Log: slog.New(slog.NewTextHandler(&said, nil))})
		for _, step := range []struct {
			takes time.Duration
			lines int
		}{{patience - time.Millisecond, 0}, {3*patience + time.Millisecond, 3}} {
			before := said.count("file=actors/big.wasm bytes=7")
			stop := c.tellWhile("big.wasm", 7)
			time.Sleep(step.takes)
			stop()
			time.Sleep(time.Minute)
			if n := said.count("file=actors/big.wasm bytes=7") - before; n != step.lines {
				t.Errorf("%v: %d lines, want %d: %s", step.takes, n, step.lines, said.String())
			}
		}
	})
}
