package main

import (
	"bytes"
	"io"
	"sync"
)

// lineWriter passes whole lines on, each with a prefix, so that those of several writers do not mix. It keeps what is behind
// the last line end for the next write; mostLine of that is written as if it were a line.
type lineWriter struct {
	mu     *sync.Mutex // of w, held for one write of it
	w      io.Writer
	prefix string
	rest   []byte
}

const mostLine = 64 << 10

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	var out []byte
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < mostLine {
			break
		}
		if end < 0 {
			end = len(l.rest) - 1
		}
		out = append(append(out, l.prefix...), l.rest[:end+1]...)
		l.rest = l.rest[end+1:]
		if out[len(out)-1] != '\n' {
			out = append(out, '\n')
		}
	}
	if len(out) > 0 {
		_, _ = l.w.Write(out) // a node does not stop because nobody reads its log
	}
	return len(p), nil
}

// end writes what is left as a last line.
func (l *lineWriter) end() {
	l.mu.Lock()
	left := len(l.rest) > 0
	l.mu.Unlock()
	if left {
		_, _ = l.Write([]byte{'\n'})
	}
}
