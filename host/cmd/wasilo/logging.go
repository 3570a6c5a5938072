package main

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// newLogger writes to w: JSON, or text that is coloured on a terminal unless NO_COLOR is set.
func newLogger(w io.Writer, level slog.Level, format string, env []string) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: level, TimeFormat: "15:04:05.000", NoColor: !colours(w, env), ReplaceAttr: plainMessage,
	}))
}

// colours reports whether w is a terminal that wants them.
func colours(w io.Writer, env []string) bool {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return false
		}
	}
	return true
}

// plainMessage takes control characters out of messages, which tint writes as they are: some come from guests.
func plainMessage(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString {
		if s := a.Value.String(); strings.ContainsFunc(s, unicode.IsControl) {
			a.Value = slog.StringValue(oneLine(s))
		}
	}
	return a
}
