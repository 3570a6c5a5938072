package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// banner says on stderr what is loaded from dir, "" for a client, and what to type next.
func (a *app) banner(node *host.Node, dir string) {
	w := a.stderr
	empty := "Nothing is loaded yet: put a .wasm file into " + oneLine(dir) + ", it is picked up at once."
	if dir == "" {
		dir, empty = "the actors of other nodes", "No other node is known that hosts any: join one with --join."
	}
	fmt.Fprintf(w, "\nwasilo serves %s at %s\n\n", oneLine(dir), node.URL())
	kinds := node.Kinds()
	t := newTable(w)
	t.indent = "  "
	for i := range kinds {
		k := &kinds[i]
		t.row(k.Name, someNames(methodNames(k)), fileOf(k))
	}
	_ = t.flush()
	for _, f := range node.Files() {
		if s := notice(f, time.Now()); s != "" {
			fmt.Fprintf(w, "  %s\n", s)
		}
	}
	example, ok := gateway.PickExample(kinds)
	switch {
	case len(kinds) == 0:
		fmt.Fprintf(w, "  %s\n", empty)
	case ok:
		fmt.Fprintf(w, "\nIn another terminal:\n\n  %s\n\nor\n\n  %s\n",
			callLine(selfCommand(), node.URL(), example), example.Curl(node.URL()))
	}
	fmt.Fprintf(w, "\nCtrl-C ends it.\n\n")
}

func methodNames(k *gateway.KindInfo) string {
	if len(k.Methods) == 0 {
		return "(any method)"
	}
	names := make([]string, 0, len(k.Methods))
	for i := range k.Methods {
		names = append(names, k.Methods[i].Name)
	}
	return strings.Join(names, " ")
}

// someNames cuts a list of names to what fits into a column; wasilo kinds shows all.
func someNames(names string) string {
	if width(names) <= widest {
		return names
	}
	end := strings.LastIndexByte(names[:widest-1], ' ')
	return names[:max(end, 0)] + " …"
}

// notice says why what is on disk is not what serves, "" if it is.
func notice(f gateway.FileInfo, now time.Time) string {
	kept := ""
	if !f.LoadingSince.IsZero() {
		if f.State != gateway.FileLoading {
			kept = ", the version before it serves meanwhile"
		}
		return oneLine(f.Path) + " is being loaded, for " + age(f.LoadingSince, now) + kept
	}
	if f.State == gateway.FileLoaded {
		return ""
	}
	if f.State == gateway.FileKept {
		kept = ", the version before it still serves"
	}
	return oneLine(f.Path) + " was refused" + kept + ": " + oneLine(f.Error)
}

// callLine is the example as one types it.
func callLine(self, url string, e gateway.Example) string {
	line := self + " call "
	if url != client.DefaultURL {
		line += "--node " + url + " "
	}
	line += e.Target.Key() + " " + e.Method
	if e.JSON != "{}" {
		line += " " + gateway.ShellWord(e.JSON)
	}
	return line
}

// selfCommand is how this program is called here: by name if the path leads to it, else as it was called just now.
func selfCommand() string {
	self, err := os.Executable()
	if err != nil {
		return "wasilo"
	}
	if found, err := exec.LookPath("wasilo"); err == nil && sameFile(found, self) {
		return "wasilo"
	}
	const source = "./host/cmd/wasilo"
	if strings.Contains(filepath.ToSlash(self), "/go-build") { // `go run`: that file is gone when this process is
		if _, err := os.Stat(filepath.Join(source, "main.go")); err == nil {
			return "go run " + source
		}
		return "wasilo"
	}
	return os.Args[0]
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// stateText is a kind's state for people.
func stateText(s gateway.StateInfo) string {
	if s.Keep == string(abi.KeepNone) {
		return "none"
	}
	return s.Keep + ", " + s.Level
}
