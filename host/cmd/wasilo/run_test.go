package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/actor"
	"github.com/wasilo/wasilo/host/gateway"
)

func TestEveryVerbIsExplained(t *testing.T) {
	a := &app{}
	for _, c := range a.command().Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || c.Long == "" || !strings.Contains(c.Example, "wasilo "+c.Name()) {
			t.Errorf("%s lacks a description or an example", c.Name())
		}
		if !strings.HasPrefix(c.Use, c.Name()) {
			t.Errorf("%s: %s", c.Name(), c.Use)
		}
	}
}

// The exit code of an error is the one of its code, wrapped or not, and the help lists them all.
func TestExitCodes(t *testing.T) {
	for _, info := range abi.Codes() {
		var out bytes.Buffer
		a := &app{stderr: &out}
		var err error
		if info.Code != abi.ErrNone {
			err = errors.Join(abi.NewError(info.Code, "why"))
		}
		if got := a.report(err); got != info.Exit {
			t.Errorf("%s: exit code %d, want %d", info.Name, got, info.Exit)
		}
		if n := strings.Count(out.String(), "\n"); err != nil && n != 1 {
			t.Errorf("%s: %d lines", info.Name, n)
		}
	}
	a := &app{stderr: &bytes.Buffer{}}
	if got := a.report(errors.New("anything else")); got != abi.ExitActor {
		t.Error(got)
	}
	if got := a.report(usagef("typed wrongly")); got != abi.ExitUsage {
		t.Error(got)
	}
}

func TestRunIsAFunction(t *testing.T) {
	var out, errs bytes.Buffer
	code := Run([]string{"version"}, strings.NewReader(""), &out, &errs)
	if code != 0 || !strings.HasPrefix(out.String(), "wasilo ") || errs.Len() > 0 {
		t.Errorf("%d %q %q", code, out.String(), errs.String())
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{"plain é": "plain é", "a\nb\n": "a; b", "\x1b[2J": `\x1b[2J`, "\u009bm": `\u009bm`,
		"a\u202eb\u2028c\ufeff": `a\u202eb\u2028c\ufeff`, "👩\u200d💻": "👩\u200d💻",
		"a\tb": `a\tb`, "": ""} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTablesAreAligned(t *testing.T) {
	var out bytes.Buffer
	tab := newTable(&out, "ACTOR", "STATE", "N")
	tab.indent = "  "
	tab.row("counter/日本語😀", "idle", "1")
	tab.row("counter/e\u0301", "running", "22")
	tab.row("counter/"+strings.Repeat("x", widest), "idle", "3")
	tab.row(actorName("counter", " "), "idle", "4")
	tab.row("counter/\u202eabc", "idle", "5")
	tab.row("counter/👩\u200d💻", "idle")
	if err := tab.flush(); err != nil {
		t.Fatal(err)
	}
	want := `  ACTOR              STATE    N
  counter/日本語😀   idle     1
  counter/e` + "\u0301" + `          running  22
  counter/` + strings.Repeat("x", widest) + `  idle     3
  "counter/ "        idle     4
  counter/\u202eabc  idle     5
  counter/👩` + "\u200d" + `💻       idle
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// One signal that is delivered twice ends nothing at once.
func TestTheSameSignalTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, done := make(chan os.Signal, 2), make(chan error, 1)
		signals <- syscall.SIGTERM
		go func() {
			time.Sleep(sameSignal - 1)
			signals <- syscall.SIGTERM
			time.Sleep(time.Second)
			done <- errors.New("done")
		}()
		if err, forced := unlessAnother(signals, done); forced || err == nil {
			t.Errorf("%v, forced %v", err, forced)
		}
		go func() {
			time.Sleep(sameSignal)
			signals <- syscall.SIGTERM
		}()
		if err, forced := unlessAnother(signals, done); !forced {
			t.Errorf("%v, not forced", err)
		}
		go func() { // the end of stdin is never the second one, however late
			time.Sleep(time.Minute)
			signals <- leashSlipped
			time.Sleep(time.Second)
			done <- nil
		}()
		if _, forced := unlessAnother(signals, done); forced {
			t.Error("forced by the end of stdin")
		}
	})
}

func TestLogIsPlainWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, slog.LevelInfo, "text", nil)
	log.Debug("hidden")
	log.Info("a guest says \x1b[31mred", "actor", "counter/a")
	s := out.String()
	if strings.Contains(s, "\x1b") || strings.Contains(s, "hidden") || !strings.Contains(s, `\x1b[31mred`) ||
		!strings.Contains(s, "actor=counter/a") {
		t.Errorf("%q", s)
	}
	out.Reset()
	newLogger(&out, slog.LevelDebug, "json", nil).Debug("shown")
	if !strings.HasPrefix(out.String(), `{"time":`) {
		t.Errorf("%q", out.String())
	}
}

func TestCallLine(t *testing.T) {
	alice, err := abi.NewIdentity("counter", "alice")
	if err != nil {
		t.Fatal(err)
	}
	e := gateway.Example{Target: alice, Method: "add", JSON: `{"by":1}`}
	if got := callLine("wasilo", "http://127.0.0.1:7700", e); got != `wasilo call counter/alice add '{"by":1}'` {
		t.Error(got)
	}
	e.JSON = `{"it's":1}`
	if got := callLine("wasilo", "http://127.0.0.1:7700", e); got != `wasilo call counter/alice add '{"it'\''s":1}'` {
		t.Error(got)
	}
	e.JSON = "{}"
	if got := callLine("./bin/wasilo", "http://127.0.0.1:9", e); got != `./bin/wasilo call --node http://127.0.0.1:9 counter/alice add` {
		t.Error(got)
	}
}

func TestAge(t *testing.T) {
	now := time.Unix(1e9, 0)
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m30s", 10 * time.Minute: "10m0s",
		26*time.Hour + 5*time.Minute: "26h5m", 80 * time.Hour: "3d", -time.Second: "0s"} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if age(time.Time{}, now) != "-" {
		t.Error("never")
	}
}

// A node that has not the time to leave in good order ended with a failure: it is no deadline of whoever started it.
func TestAShutdownThatRunsOutOfTime(t *testing.T) {
	owes := make(chan struct{})
	node, err := host.New(host.Config{Native: []host.NativeKind{{Desc: abi.KindDescription{Name: "owes", Events: []abi.EventTag{abi.EventCall}},
		New: func(*actor.Host) (actor.Instance, error) { return debtor(owes), nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := abi.NewIdentity("owes", "a")
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan error, 1)
	go func() {
		_, err := node.Send(context.Background(), &abi.Envelope{Target: id, Method: "m", Payload: []byte{0xf6}, Deadline: time.Now().Add(time.Hour)})
		called <- err
	}()
	<-owes
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	a := &app{stderr: &out}
	if code := a.report(a.stopNode(ctx, node, nil)); code != abi.ExitActor {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(out.String(), "cut off before they had finished: 1") {
		t.Error(out.String())
	}
	<-called
}

// debtor never answers; it is closed with the first call.
type debtor chan struct{}

func (d debtor) Turn(ev *abi.Event, _ time.Time, out *abi.Output) error {
	if out.Kind = abi.OutEffects; ev.Tag == abi.EventCall {
		close(d)
	}
	return nil
}

func (debtor) Close() error { return nil }
