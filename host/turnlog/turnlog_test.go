package turnlog_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/turnlog"
)

func identity(t *testing.T, key string) abi.Identity {
	t.Helper()
	id, err := abi.ParseIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func read(t *testing.T, file string) []turnlog.Record {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := turnlog.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turns")
	a, b := identity(t, `k/a "quoted"`), identity(t, "k/b")
	e := abi.Epoch{Generation: 1, Index: 7}
	l, err := turnlog.Open(file, "n1", nil)
	if err != nil {
		t.Fatal(err)
	}
	first := l.Enabled(a, e)
	at := time.Now()
	l.Checked(at, a, e, first)
	l.Answered(at.Add(time.Second), a, e, first)
	second := l.Enabled(b, abi.Epoch{Index: 9})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := turnlog.Open(file, "n1", nil) // the node is started again
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}

	all := read(t, file)
	var got []string
	for _, r := range all {
		got = append(got, fmt.Sprint(r.Node, " ", r.What, " ", r.Actor, " ", r.Epoch(), " ", r.Activation))
	}
	want := []string{"n1 opened  {0 0} 0", `n1 enabled k/a "quoted" {1 7} 1`, `n1 checked k/a "quoted" {1 7} 1`,
		`n1 answered k/a "quoted" {1 7} 1`, "n1 enabled k/b {0 9} 2", "n1 opened  {0 0} 0"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || first != 1 || second != 2 {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if d := all[3].At - all[2].At; d != int64(time.Second) {
		t.Errorf("a second later is %v later", time.Duration(d))
	}
	if all[0].At > all[1].At || all[1].At > all[2].At || all[3].At-int64(time.Second) > all[5].At {
		t.Errorf("time goes back: %+v", all)
	}
}

func TestManyGoroutinesWriteWholeLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turns")
	l, err := turnlog.Open(file, "n1", func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	a := identity(t, "k/a")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			n := l.Enabled(a, abi.Epoch{Index: 1})
			for range 100 {
				l.Checked(time.Now(), a, abi.Epoch{Index: 1}, n)
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, file)); n != 1+8*101 {
		t.Errorf("%d records", n)
	}
}

func TestFailureIsToldOnce(t *testing.T) {
	told := 0
	l, err := turnlog.Open(filepath.Join(t.TempDir(), "turns"), "n1", func(error) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for range 3 {
		l.Checked(time.Now(), identity(t, "k/a"), abi.Epoch{}, 1)
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if _, err := turnlog.Open(t.TempDir(), "n1", nil); err == nil {
		t.Error("a directory is no log")
	}
}

func TestBadLines(t *testing.T) {
	good := `{"at":1,"node":"n1","what":"checked","actor":"k/a","index":1,"activation":1}` + "\n"
	for _, c := range []struct{ text, says string }{
		{good + good, ""},
		{good + good[:20], ""}, // the machine went down
		{good + "{}\n", `line 2: there is no ""`},
		{"nonsense\n", "line 1 is no record"},
		{`{"at":1,"node":"n1","what":"checked"}` + "\n", "without an actor"},
		{`{"at":1,"node":"n1","what":"opened","more":1}` + "\n", "unknown field"},
	} {
		_, err := turnlog.Read(strings.NewReader(c.text))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}
