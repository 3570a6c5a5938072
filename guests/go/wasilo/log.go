package wasilo

import (
	"context"
	"log/slog"
	"strconv"
	"time"
)

// logHandler writes slog records to the host's log as one line: the message, then key=value. The host adds time and
// actor, and decides which levels are shown.
type logHandler struct {
	inst   *Instance
	prefix string // attributes given by With, formatted
	group  string // "a.b."
}

var _ slog.Handler = (*logHandler)(nil)

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	if !h.inst.ctx.live {
		return nil // outside of a turn there is no host to log to
	}
	b := append(make([]byte, 0, 128), r.Message...)
	b = append(b, h.prefix...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.group, a)
		return true
	})
	h.inst.host.Log(wireLevel(r.Level), string(b))
	return nil
}

// wireLevel returns the level's number in the ABI: 0 debug, 1 info, 2 warning, 3 error.
func wireLevel(l slog.Level) int32 {
	switch {
	case l < slog.LevelInfo:
		return 0
	case l < slog.LevelWarn:
		return 1
	case l < slog.LevelError:
		return 2
	}
	return 3
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	b := []byte(h.prefix)
	for _, a := range attrs {
		b = appendAttr(b, h.group, a)
	}
	return &logHandler{inst: h.inst, prefix: string(b), group: h.group}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{inst: h.inst, prefix: h.prefix, group: h.group + name + "."}
}

func appendAttr(b []byte, group string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, member := range v.Group() {
			b = appendAttr(b, group, member)
		}
		return b
	}
	if a.Equal(slog.Attr{}) {
		return b
	}
	b = append(b, ' ')
	b = append(b, group...)
	b = append(b, a.Key...)
	b = append(b, '=')
	var s string
	switch v.Kind() {
	case slog.KindTime:
		s = v.Time().Format(time.RFC3339Nano)
	default:
		s = v.String()
	}
	if needsQuotes(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

func needsQuotes(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c >= 0x7f {
			return true
		}
	}
	return s == ""
}
