package link

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// quietLog writes one line about a thing and a peer in a while, however often it happens, and says how many were left out.
type quietLog struct {
	log *slog.Logger
	now func() time.Duration

	mu   sync.Mutex
	seen map[quietKey]*quietLine
}

type quietKey struct {
	msg string
	who any // comparable
}

type quietLine struct {
	next time.Duration
	left int
}

const (
	quietFor  = 10 * time.Second
	quietKeys = 1024
)

func newQuietLog(log *slog.Logger, now func() time.Duration) *quietLog {
	return &quietLog{log: log, now: now, seen: make(map[quietKey]*quietLine)}
}

// warn writes the line unless one of the same message about the same peer was written a moment ago.
func (q *quietLog) warn(msg string, who any, args ...any) {
	q.say(slog.LevelWarn, msg, who, args...)
}

// info is warn for what is no trouble, debug for what is of interest to few.
func (q *quietLog) info(msg string, who any, args ...any)  { q.say(slog.LevelInfo, msg, who, args...) }
func (q *quietLog) debug(msg string, who any, args ...any) { q.say(slog.LevelDebug, msg, who, args...) }

func (q *quietLog) say(level slog.Level, msg string, who any, args ...any) {
	left, ok := q.due(quietKey{msg, who})
	if !ok {
		return
	}
	if left > 0 {
		args = append(args, "left_out", left)
	}
	q.log.Log(context.Background(), level, msg, args...)
}

func (q *quietLog) due(key quietKey) (left int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	line := q.seen[key]
	if line == nil {
		if len(q.seen) >= quietKeys {
			for k, l := range q.seen {
				if now >= l.next {
					delete(q.seen, k)
				}
			}
		}
		if len(q.seen) >= quietKeys { // so many peers at once: one line for all
			key.who = nil
			line = q.seen[key]
		}
		if line == nil {
			q.seen[key] = &quietLine{next: now + quietFor}
			return 0, true
		}
	}
	if now < line.next {
		line.left++
		return 0, false
	}
	left, line.left = line.left, 0
	line.next = now + quietFor
	return left, true
}
