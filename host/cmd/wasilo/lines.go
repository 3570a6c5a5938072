package main

import (
	"bytes"
	"encoding/json"
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

// announcement is the one line that a node prints on stdout when it is ready and asked for JSON.
type announcement struct {
	URL    string `json:"url"`
	ID     string `json:"id"`
	Link   string `json:"link,omitempty"`
	Gossip string `json:"gossip,omitempty"`
	PID    int    `json:"pid,omitempty"` // of several nodes
}

// announced takes a node's stdout, and sends its first line. What follows is dropped.
type announced struct {
	to   chan<- announcement // with room for one
	line []byte
	done bool
}

func (r *announced) Write(p []byte) (int, error) {
	if r.done {
		return len(p), nil
	}
	r.line = append(r.line, p...)
	if end := bytes.IndexByte(r.line, '\n'); end >= 0 || len(r.line) > mostLine {
		r.done = true
		var said announcement
		if end >= 0 && json.Unmarshal(r.line[:end], &said) == nil {
			r.to <- said
		}
	}
	return len(p), nil
}
