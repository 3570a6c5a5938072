package serfwatch

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

// logWriter takes the lines of serf and memberlist, written through a log.Logger without prefix, to slog. Their [INFO] becomes
// debug, since what matters to an operator is said by the Watch in its own words, and [ERR] becomes a warning: it tells of
// something that another node did, or of a packet that did not get there.
type logWriter struct {
	log     *slog.Logger
	limiter limiter
	mute    atomic.Bool // set when the end begins: what breaks then was meant to
}

// Write takes one line.
func (w *logWriter) Write(line []byte) (int, error) {
	level, part, text := parseLine(string(line))
	ctx := context.Background() // the line has none
	for _, u := range usual {
		if strings.Contains(text, u) {
			level = min(level, slog.LevelDebug)
		}
	}
	if w.mute.Load() || !w.log.Enabled(ctx, level) {
		return len(line), nil
	}
	if level < slog.LevelWarn {
		w.log.Log(ctx, level, text, "part", part)
		return len(line), nil
	}
	msg, attrs := text, []any{"part", part}
	for _, h := range hints {
		if strings.Contains(text, h.text) {
			msg, attrs = h.msg, append(attrs, "detail", text)
			break
		}
	}
	w.warn(level, template(msg), msg, attrs...)
	return len(line), nil
}

// warn logs a message that a peer can cause again and again: a few a minute of each key, then the number of those left out.
func (w *logWriter) warn(level slog.Level, key, msg string, attrs ...any) {
	ok, suppressed := w.limiter.allow(key, time.Now())
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, "left_out", suppressed)
	}
	w.log.Log(context.Background(), level, msg, attrs...)
}

// usual are warnings about what comes with nodes that are started again on their old ports, or leave together.
var usual = []string{
	"Got ping for unexpected node",
	"Failed fallback TCP ping",
	"timeout waiting for leave broadcast",
	"Refuting a suspect message", // this node was slow to answer, and says that it lives
	"Refuting a dead message",
	"Binding to public address without encryption", // the host sees to that
}

// hints say what some lines mean. The line itself, which has the address, follows as detail.
var hints = []struct{ text, msg string }{
	{`unacceptable label ""`, "something that is no gossip of this cluster was refused: another cluster's, or no gossip at all"},
	{"unacceptable label", "gossip from another cluster was refused"},
	{"Decrypt packet failed", "gossip with a wrong key, or none, was refused"},
	{"encryption is configured but", "gossip with a wrong key, or none, was refused"},
	{"o installed keys could decrypt", "gossip with a wrong key, or none, was refused"},
	{"is encrypted and encryption is not configured", "gossip with a key was refused: this node has none"},
}

// parseLine splits "[LEVEL] part: text".
func parseLine(line string) (level slog.Level, part, text string) {
	text = plain(line, 400)
	part = "serf"
	level = slog.LevelWarn
	if tag, rest, ok := strings.Cut(text, "] "); ok && strings.HasPrefix(tag, "[") {
		switch tag[1:] {
		case "DEBUG", "TRACE", "INFO":
			level = slog.LevelDebug
		}
		text = rest
	}
	for _, p := range []string{"serf", "memberlist"} {
		if rest, ok := strings.CutPrefix(text, p+": "); ok {
			part, text = p, rest
		}
	}
	return level, part, text
}

// plain makes one line of s, for a log or a terminal, of at most n bytes and a mark that it was cut.
func plain(s string, n int) string {
	s = strings.TrimRight(s, "\n")
	cut := len(s) > n
	if cut {
		s = s[:n]
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if cut {
		s += "…"
	}
	return s
}

// template is what a line has in common with others of its sort: its beginning, up to the first name or number.
func template(text string) string {
	if i := strings.IndexAny(text, `0123456789'"`); i > 0 {
		text = text[:i]
	}
	return text
}

// limiter bounds what is logged of each key.
type limiter struct {
	mu   sync.Mutex
	keys map[string]*window
}

type window struct {
	since      time.Time
	logged     int
	suppressed int
}

// What a limiter lets through. Keys come from lines that peers have a say in, so there is a limit to them too.
const (
	perWindow   = 5
	windowSize  = time.Minute
	maxTemplate = 100
)

// allow reports whether something is to be logged now, and how often it was not since the last time.
func (l *limiter) allow(key string, now time.Time) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.keys[key]
	if w == nil && len(l.keys) >= maxTemplate {
		key = ""
		w = l.keys[key]
	}
	if w == nil {
		if l.keys == nil {
			l.keys = make(map[string]*window)
		}
		w = &window{since: now}
		l.keys[key] = w
	}
	if now.Sub(w.since) >= windowSize {
		w.since, w.logged = now, 0
	}
	if w.logged >= perWindow {
		w.suppressed++
		return false, 0
	}
	w.logged++
	suppressed, w.suppressed = w.suppressed, 0
	return true, suppressed
}
