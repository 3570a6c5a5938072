package engine

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// iovec is a WASI vector of one range.
func iovec(ptr, n int) []byte {
	return []byte{byte(ptr), byte(ptr >> 8), byte(ptr >> 16), 0, byte(n), byte(n >> 8), byte(n >> 16), 0}
}

// write makes the guest write text to a file descriptor.
func write(t *testing.T, i *Instance, fd int64, text string) {
	t.Helper()
	d := append(iovec(int(data(1))+8, len(text)), text...)
	want(t, results(run(t, i, d, record{opWrite, fd, data(1), 1, scratch}), 1), 0)
}

func TestStreamsBecomeLogLines(t *testing.T) {
	var book logBook
	i := instance(t, "hostcalls.wasm", &bookHost{}, Options{Log: book.logger()})
	write(t, i, 1, "first\nsec")
	write(t, i, 2, "other stream\r\n\n")
	write(t, i, 1, "ond\nlast, unfinished \xff")
	i.Close()
	want := strings.Join([]string{
		`level=INFO msg=first stream=stdout`,
		`level=INFO msg="other stream" stream=stderr`,
		`level=INFO msg=second stream=stdout`,
		"level=INFO msg=\"last, unfinished \uFFFD\" stream=stdout",
	}, "\n")
	if got := book.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	var book logBook
	i := instance(t, "hostcalls.wasm", &bookHost{}, Options{Log: book.logger()})
	write(t, i, 1, strings.Repeat("ü", 5000)+"\nnext\n")
	lines := strings.Split(book.String(), "\n")
	if len(lines) != 2 || len(lines[0]) > maxLine+100 || !strings.Contains(lines[0], "ü… stream") || !strings.Contains(lines[1], "next") {
		t.Errorf("%d lines, the first of %d bytes", len(lines), len(lines[0]))
	}
}

// inBubble runs f with an instance of hostcalls.wasm where the clock stands while anything runs. The engine is its own, whose cache would be
// stamped with the bubble's time.
func inBubble(t *testing.T, f func(t *testing.T, i *Instance, log *logBook)) {
	synctest.Test(t, func(t *testing.T) {
		e, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := e.Load(t.Context(), fixture(t, "hostcalls.wasm"))
		if err != nil {
			t.Fatal(err)
		}
		var book logBook
		i, err := m.Instantiate(t.Context(), &bookHost{}, Options{Log: book.logger()})
		if err != nil {
			t.Fatal(err)
		}
		f(t, i, &book)
		if err := errors.Join(i.Close(), m.Close(), e.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestFloodIsDroppedAndCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, i *Instance, book *logBook) {
		write(t, i, 1, strings.Repeat("x\n", 5000))
		run(t, i, []byte("logged"), record{opLog, 1, data(1), 6, 0})
		i.Close()
		got := book.String()
		if n := strings.Count(got, "msg=x"); n != linesBurst {
			t.Errorf("%d lines", n)
		}
		if !strings.Contains(got, "the guest writes more than is logged") {
			t.Errorf("nobody is told: %s", got[len(got)-200:])
		}
	})
}

// TestLastWordsOfALoggedError: guests without WASI say through `log` why they die.
func TestLastWordsOfALoggedError(t *testing.T) {
	i := instance(t, "hostcalls.wasm", &bookHost{}, Options{})
	_, err := turn(i, script(t, []byte("index 7 out of range"), record{opLog, 3, data(2), 20, 0}, record{31, 0, 0, 0, 0}))
	if abi.CodeOf(err) != abi.ErrTrap || !strings.Contains(err.Error(), "wasm unreachable: index 7 out of range; at run") {
		t.Errorf("got %v", err)
	}
}

// TestLastWordsAreOfTheTurn: what an earlier turn said explains nothing.
func TestLastWordsAreOfTheTurn(t *testing.T) {
	i := instance(t, "hostcalls.wasm", &bookHost{}, Options{})
	run(t, i, []byte("old news"), record{opLog, 3, data(1), 8, 0})
	_, err := turn(i, script(t, nil, record{31, 0, 0, 0, 0}))
	if abi.CodeOf(err) != abi.ErrTrap || strings.Contains(err.Error(), "old news") {
		t.Errorf("got %v", err)
	}
}

// TestSleepWithinATurn: poll_oneoff sleeps, and wakes.
func TestSleepWithinATurn(t *testing.T) {
	i := instance(t, "hostcalls.wasm", &bookHost{}, Options{})
	sub := make([]byte, 48)
	ns := uint64(20 * time.Millisecond)
	for n := range 8 {
		sub[24+n] = byte(ns >> (8 * n))
	}
	start := time.Now()
	want(t, results(run(t, i, sub, record{opPoll, data(1), scratch, 1, scratch + 512}), 1), 0)
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("it slept %v", d)
	}
}

// TestFloodIsToldOnceASecond: a guest that floods for long must not fill the log by what is said of it.
func TestFloodIsToldOnceASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, i *Instance, book *logBook) {
		for range 250 { // 2.5 s; lines are let through again every 20 ms
			write(t, i, 1, strings.Repeat("x\n", 500))
			time.Sleep(10 * time.Millisecond)
		}
		i.Close()
		if n := strings.Count(book.String(), "more than is logged"); n != 4 { // the first time, twice after a second, and the rest at the end
			t.Errorf("told %d times", n)
		}
	})
}

// TestAllGuestsTogetherAreBounded: many guests that each keep to their rate.
func TestAllGuestsTogetherAreBounded(t *testing.T) {
	var book logBook
	m := mustLoad(t, newEngine(t, Config{}), "hostcalls.wasm")
	began := time.Now()
	for range 2 * allLinesBurst / linesBurst {
		i := instantiate(t, m, &bookHost{}, Options{Log: book.logger()})
		write(t, i, 1, strings.Repeat("x\n", linesBurst))
		i.Close()
	}
	most := allLinesBurst + int(time.Since(began).Seconds()*allLinesSecond) + 1
	if n := strings.Count(book.String(), "msg=x"); n > most || n < allLinesBurst/2 {
		t.Errorf("%d lines, at most %d", n, most)
	}
}
