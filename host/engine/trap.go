package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/forge"
)

// breach is the panic of a host function that the guest called wrongly; wazero turns it into the error of the call.
type breach struct{ reason string }

func (b *breach) Error() string { return b.reason }

// maxFrames is how many frames of a wasm backtrace an error names.
const maxFrames = 6

// failure turns the end of a call into the guest into the error that callers see. what is the subject of the sentence:
// "the turn".
func (i *Instance) failure(what string, err error) *abi.Error {
	var exit *sys.ExitError
	exited := errors.As(err, &exit)
	if fail := i.limitError(what, err); fail != nil {
		return fail
	}
	code, reason := abi.ErrTrap, ""
	var b *breach
	var host runtime.Error
	switch {
	case errors.As(err, &b):
		reason = b.reason
	case exited:
		reason = fmt.Sprintf("the guest exited with code %d", exit.ExitCode())
	case errors.As(err, &host):
		i.log.Error("a host function panicked", "err", err)
		reason = "a host function failed: " + host.Error()
	default:
		reason = wasmReason(err)
	}
	switch i.memory.refused {
	case ownLimit:
		code = abi.ErrLimitExceeded
		reason = "out of memory (limit " + byteSize(i.memoryLimit) + "; limits.memory, or that of the kind): " + reason
	case nodeLimit:
		code = abi.ErrLimitExceeded
		reason = "out of memory (node): all actors together have what limits.max_bytes lets them have: " + reason
	}
	if i.body != nil && i.tablesFull() {
		code = abi.ErrLimitExceeded
		reason = fmt.Sprintf("out of table entries (limit %d; limits.table, or that of the kind): %s", i.tableLimit, reason)
	}
	if words := i.console.lastWords(); words != "" {
		reason += ": " + words
	}
	if frames := backtrace(err); frames != "" {
		reason += "; at " + frames
	} else if i.console.where != "" {
		reason += "; at " + i.console.where
	}
	return abi.NewError(code, oneLine(reason))
}

// maxReason is how long a text that a guest or a file had its part in may be.
const maxReason = 2 << 10

// oneLine makes text of one line, of no more than maxReason bytes, of what a guest or a file may have written: names hold anything.
func oneLine(s string) string {
	if len(s) > maxReason {
		s = clean([]byte(s[:maxReason])) + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// wasmReason is the first line of a wazero error in few words.
func wasmReason(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	first = strings.TrimSuffix(first, " (recovered by wazero)")
	if _, trap, ok := strings.Cut(first, "wasm error: "); ok {
		return "wasm " + trap
	}
	if first == "stack overflow" {
		return "wasm stack overflow"
	}
	return first
}

// backtrace joins the named frames of a wazero error, the innermost first.
func backtrace(err error) string {
	if err == nil {
		return ""
	}
	_, trace, ok := strings.Cut(err.Error(), "wasm stack trace:\n")
	if !ok {
		return ""
	}
	var frames []string
	for line := range strings.Lines(trace) {
		name := strings.TrimPrefix(strings.TrimSpace(line), ".")
		if name == "" {
			break // a stack of Go's may follow
		}
		if p := strings.LastIndexByte(name, '('); p > 0 {
			name = name[:p]
		}
		if strings.HasPrefix(name, "$") || strings.HasPrefix(name, "..") || strings.HasPrefix(name, abi.ImportModule+".") ||
			strings.HasPrefix(name, wasiModule+".") || forge.Injected(name) {
			continue // without a name, no frame at all, the host's, or the forge's
		}
		if len(frames) == maxFrames {
			frames = append(frames, "…")
			break
		}
		frames = append(frames, name)
	}
	return strings.Join(frames, " < ")
}

// duration writes a limit without the noise of the nanoseconds that went by while it was taken.
func duration(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return max(d, 0).String()
}

// canceledBy returns why ctx ended, if it was not its own deadline.
func canceledBy(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
