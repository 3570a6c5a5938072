package engine

import (
	"bytes"
	"fmt"
	"strconv"
)

// MaxModule is the size of a .wasm file that [Engine.Load] accepts, in bytes.
const MaxModule = 64 << 20

// checkHeader tells what a file is that does not start as a core WebAssembly module does.
func checkHeader(b []byte) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("not WebAssembly: the file is empty")
	case bytes.HasPrefix(b, []byte("\x00asm\x01\x00\x00\x00")):
		return nil
	case bytes.HasPrefix(b, []byte("\x00asm")) && len(b) >= 8 && b[6] == 1:
		return fmt.Errorf("a WebAssembly component, not a core module: build it without the component model " +
			"(for Rust the target wasm32-unknown-unknown or wasm32-wasip1)")
	case bytes.HasPrefix(b, []byte("\x00asm")):
		return fmt.Errorf("not WebAssembly 1: the version in its header is %s", hexBytes(b[4:min(len(b), 8)]))
	case isText(b):
		return fmt.Errorf("not WebAssembly but its text form (.wat): compile it with wat2wasm")
	}
	return fmt.Errorf("not WebAssembly: starts with %s, not with 00 61 73 6d", hexBytes(b[:min(len(b), 8)]))
}

// isText reports whether b looks like a .wat: a parenthesis after white space and comments.
func isText(b []byte) bool {
	for range 64 {
		b = bytes.TrimLeft(b, " \t\r\n")
		if !bytes.HasPrefix(b, []byte(";;")) {
			break
		}
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	return bytes.HasPrefix(b, []byte("(module")) || bytes.HasPrefix(b, []byte("(;"))
}

func hexBytes(b []byte) string {
	s := fmt.Sprintf("% x", b)
	for _, c := range b {
		if c < 0x20 || c >= 0x7f {
			return s
		}
	}
	return s + " (" + strconv.Quote(string(b)) + ")"
}
