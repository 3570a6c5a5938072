package engine

import (
	"bytes"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// Bounds of what one instance writes to the node's log.
const (
	maxLine     = 4 << 10 // bytes; the rest of a longer line is dropped
	linesBurst  = 200     // lines at once
	linesSecond = 50      // lines a second in the long run; those beyond are counted and dropped
	reportEvery = time.Second
	maxWords    = 512      // bytes of a guest's last words that go into an error
	lookAtOnce  = 64 << 10 // bytes in which a line's end is looked for at once
	linesAtOnce = 64       // lines between looks at the time
	bytesBurst  = 4        // seconds' worth of bytes at once
)

// Bounds of what all instances of an engine write together.
const (
	allLinesBurst  = 2000
	allLinesSecond = 1000
)

// console takes what a guest writes: stdout, stderr and the import `log`. It is used on the turn's goroutine.
type console struct {
	inst     *Instance
	stdout   lineWriter
	stderr   lineWriter
	limiter  *rate.Limiter // of lines; made with the first one
	volume   *rate.Limiter // of bytes; made with the first line
	bytes    int           // a second
	dropped  int
	reported time.Time // when it was last told that lines were dropped
	panicked string    // the line of this turn that looks like a panic, and what follows it
	follow   int       // how many further lines belong to it
	where    string    // the function that a Go guest's own backtrace names first
	last     string    // the last line of this turn on stderr, or logged as an error
}

// init ties the console to its instance.
func (c *console) init(i *Instance) {
	c.inst = i
	c.stdout = lineWriter{c: c, stream: "stdout"}
	c.stderr = lineWriter{c: c, stream: "stderr"}
}

// lineWriter cuts a stream into lines.
type lineWriter struct {
	c      *console
	stream string
	buf    []byte
	cut    bool // the line was too long
}

// Write never keeps p. Its error ends the guest's fd_write once the deadline has passed: a single write may hold
// millions of lines.
func (w *lineWriter) Write(p []byte) (int, error) {
	total := len(p)
	for work := linesAtOnce; len(p) > 0; work++ {
		if work >= linesAtOnce {
			work = 0
			if err := w.c.inst.guard.check(); err != nil {
				return 0, err
			}
		}
		look := p[:min(len(p), lookAtOnce)]
		end := bytes.IndexByte(look, '\n')
		part := look
		if end >= 0 {
			part, p = p[:end], p[end+1:]
		} else {
			p = p[len(look):]
			work = linesAtOnce // to read memory that was never touched takes as long as to touch it
		}
		if room := maxLine - len(w.buf); len(part) > room {
			part, w.cut = part[:room], true
		}
		w.buf = append(w.buf, part...)
		if end >= 0 {
			w.flush()
		}
	}
	return total, nil
}

// flush writes the line that was begun.
func (w *lineWriter) flush() {
	line := clean(w.buf)
	if w.stream == "stderr" {
		w.c.note(line)
	}
	if w.cut {
		line += "…"
	}
	w.buf, w.cut = w.buf[:0], false
	if line != "" && w.c.allow(len(line)) {
		w.c.inst.log.Info(line, "stream", w.stream)
	}
}

// log takes a line from the import `log`.
func (c *console) log(level slog.Level, msg []byte) {
	line, more := msg, ""
	if len(line) > maxLine {
		line, more = line[:maxLine], "…"
	}
	text := clean(line)
	if level >= slog.LevelError {
		c.note(text)
	}
	if c.allow(len(text)) {
		c.inst.host.Log(level, text+more)
	}
}

// clean makes text of what a guest wrote; a character that was cut at the end is dropped.
func clean(b []byte) string {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				b = b[:len(b)-n]
			}
			break
		}
	}
	return strings.TrimRight(strings.ToValidUTF8(string(b), "\uFFFD"), " \t\r")
}

// allow counts a line of n bytes against the rates, and tells of those that were dropped before it.
func (c *console) allow(n int) bool {
	if c.limiter == nil {
		c.limiter = rate.NewLimiter(linesSecond, linesBurst)
		c.volume = rate.NewLimiter(rate.Limit(c.bytes), max(bytesBurst*c.bytes, maxLine))
	}
	if !c.limiter.Allow() || !c.volume.AllowN(time.Now(), n) || !c.inst.module.eng.lines.Allow() {
		c.dropped++
		return false
	}
	if c.dropped > 0 {
		if now := time.Now(); now.Sub(c.reported) >= reportEvery {
			c.reported = now
			c.reportDropped()
		}
	}
	return true
}

// reportDropped tells of the lines that were dropped since it last did.
func (c *console) reportDropped() {
	c.inst.log.Warn("the guest writes more than is logged", "dropped_lines", c.dropped, "lines_per_second", linesSecond, "bytes_per_second", c.bytes,
		"bytes_set_by", "limits.log_bytes, or that of the kind")
	c.dropped = 0
}

// note remembers what may be a guest's last words.
func (c *console) note(line string) {
	switch {
	case c.follow > 0 && line != "":
		c.panicked += " " + strings.TrimSpace(line)
		c.follow--
	case c.follow > 0:
		c.follow = 0
	case c.panicked == "" && looksFatal(line):
		c.panicked, c.follow = line, 2
	case c.panicked != "" && c.where == "":
		c.where = goFrame(line)
	}
	if line != "" {
		c.last = line
	}
}

// looksFatal knows how Go, Rust and AssemblyScript begin to say that they are done for.
func looksFatal(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") ||
		strings.Contains(line, "panicked at ") || strings.HasPrefix(line, "abort: ")
}

// goFrame returns the function in a line of a Go backtrace, unless it is the runtime's own: stock Go guests have no names
// for wazero's backtrace, but print one themselves.
func goFrame(line string) string {
	open := strings.LastIndexByte(line, '(')
	if open < 0 || !strings.HasSuffix(line, ")") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "runtime.") {
		return ""
	}
	if name := line[:open]; strings.Contains(name, ".") {
		return name
	}
	return ""
}

// lastWords returns what the guest said of its end in this turn, or "".
func (c *console) lastWords() string {
	words := c.panicked
	if words == "" {
		words = c.last
	}
	if len(words) > maxWords {
		words = clean([]byte(words[:maxWords])) + "…"
	}
	return words
}

// begin forgets the last turn's words.
func (c *console) begin() { c.panicked, c.last, c.where, c.follow = "", "", "", 0 }

// end writes out the lines that were begun and the count of those dropped: the instance is done.
func (c *console) end() {
	for _, w := range []*lineWriter{&c.stdout, &c.stderr} {
		if len(w.buf) > 0 {
			w.flush()
		}
	}
	if c.dropped > 0 && c.inst.module.eng.lines.Allow() {
		c.reportDropped()
	}
}

// logLevel maps the levels of the import `log`; what is beyond the highest is an error.
func logLevel(n uint32) slog.Level {
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	return levels[min(int(n), len(levels)-1)]
}
