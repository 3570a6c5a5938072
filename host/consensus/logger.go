package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// logger hands what raft logs, which is hclog's, to slog. What it informs of is for whoever looks into it: who leads and who votes the
// voter says itself. Levels are the same else; hclog's trace lies below slog's debug.
type logger struct {
	out  *slog.Logger
	name string
	args []any // of With
}

var _ hclog.Logger = (*logger)(nil)

func newLogger(out *slog.Logger, name string) *logger { return &logger{out: out, name: name} }

const levelTrace = slog.LevelDebug - 4

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return levelTrace
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelDebug
}

// usual are warnings of what happens at every start and every election.
var usual = map[string]bool{
	"heartbeat timeout reached, starting election":               true,
	"no known peers, aborting election":                          true,
	"appendEntries rejected, sending older logs":                 true,
	"rejecting pre-vote request since we have a leader":          true,
	"peer has newer term, stopping replication":                  true,
	"failed to make requestVote RPC":                             true, // the voter says itself that there is no leader
	"failed to make requestPreVote RPC":                          true,
	"rejecting pre-vote request since our last index is greater": true,
	"failed to flush response":                                   true,
	"failed to get previous log":                                 true,
	"Election timeout reached, restarting election":              true,
}

func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	if usual[msg] || msg == "failed to get log" && slices.ContainsFunc(args, func(a any) bool { return a == raft.ErrLogNotFound }) {
		level = hclog.Debug // the latter: a voter that lags behind, or is new, gets a snapshot
	}
	if level == hclog.Off || !l.enabled(slogLevel(level)) {
		return
	}
	all := make([]any, 0, 2+len(l.args)+len(args))
	if l.name != "" {
		all = append(all, "part", l.name)
	}
	all = append(append(all, l.args...), args...)
	if len(all)%2 != 0 {
		all = append(all, "(no value)")
	}
	for i := range all {
		if i%2 == 0 {
			all[i] = fmt.Sprint(all[i])
		} else {
			all[i] = plain(all[i])
		}
	}
	l.out.Log(context.Background(), slogLevel(level), msg, all...)
}

// plain makes a value one that any handler may print at any time: raft logs pointers to itself.
func plain(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if len(v) > 0 {
			return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
		}
		return ""
	case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, string:
		return v
	}
	return fmt.Sprint(v)
}

func (l *logger) enabled(level slog.Level) bool { return l.out.Enabled(context.Background(), level) }

func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *logger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }
func (l *logger) IsTrace() bool                 { return l.enabled(levelTrace) }
func (l *logger) IsDebug() bool                 { return l.enabled(slog.LevelDebug) }
func (l *logger) IsInfo() bool                  { return l.IsDebug() }
func (l *logger) IsWarn() bool                  { return l.enabled(slog.LevelWarn) }
func (l *logger) IsError() bool                 { return l.enabled(slog.LevelError) }
func (l *logger) ImpliedArgs() []any            { return l.args }
func (l *logger) Name() string                  { return l.name }

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{l.out, l.name, append(append([]any(nil), l.args...), args...)}
}

func (l *logger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

func (l *logger) ResetNamed(name string) hclog.Logger { return &logger{l.out, name, l.args} }

// SetLevel does nothing: slog's handler decides.
func (l *logger) SetLevel(hclog.Level) {}

func (l *logger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if l.enabled(slogLevel(level)) {
			return level
		}
	}
	return hclog.Off
}

func (l *logger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.out.Handler(), slog.LevelInfo)
}

func (l *logger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}
