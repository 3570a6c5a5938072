package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// writeReport writes the report of a finished run to a file of its own and returns its path.
func writeReport(s *settings, p part, st *state) (string, error) {
	if err := os.MkdirAll(s.reports, 0o755); err != nil {
		return "", err
	}
	now := time.Now()
	text := report(p, st, machine(), now)
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-soak-%s", now.Format(time.DateOnly), p.name())
		if n > 1 {
			name += fmt.Sprintf("-%d", n)
		}
		file := filepath.Join(s.reports, name+".md")
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.WriteString(text)
		return file, errors.Join(err, f.Close())
	}
}

// report is the report as Markdown.
func report(p part, st *state, machine []string, now time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Soak: %s, %s\n", st.Part, now.Format(time.DateOnly))
	line("Part `%s`: %s. Command: `go run ./tools/soak -part %s -time %s`.\n", st.Part, p.about(), st.Part, st.Time)
	if n := st.failures(); n > 0 {
		line("**%d of %d targets failed.**\n", n, len(st.Targets))
	} else {
		line("**No failure** in %d targets.\n", len(st.Targets))
	}
	line("| | |\n|---|---|")
	line("| commit | %s |", strings.Join(st.Commits, ", then "))
	line("| began, ended | %s, %s UTC |", st.Began.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime))
	line("| interruptions | %d |", st.Stops)
	for _, m := range machine {
		line("| %s |", m)
	}
	head, rule := "| target | time", "|---|---"
	for _, c := range p.columns() {
		head, rule = head+" | "+c.title, rule+"|---:"
		if c.rate {
			head, rule = head+" | "+c.title+"/s", rule+"|---:"
		}
	}
	line("\n%s | result |\n%s|---|", head, rule)
	totals := make([]int64, len(p.columns()))
	var total time.Duration
	for _, t := range st.Targets {
		result := "ok"
		if t.Failure != "" {
			result = "**FAILED**"
		}
		total += t.Elapsed
		line("| `%s` | %s%s | %s |", t.Name, t.Elapsed.Round(time.Second), cells(p, t.Counts, t.Elapsed, false), result)
		for i, n := range t.Counts {
			if i < len(totals) {
				totals[i] += n
			}
		}
	}
	line("| all | %s%s | |", total.Round(time.Second), cells(p, totals, total, true))
	if st.failures() > 0 {
		line("\n## Failures")
	}
	for _, t := range st.Targets {
		if t.Failure != "" {
			line("\n`%s`\n\n```text\n%s\n```", t.Name, t.Failure)
		}
	}
	return b.String()
}

// cells are the counts of a target, or those of all together, where what names something has no sum.
func cells(p part, counts []int64, d time.Duration, all bool) string {
	var b strings.Builder
	for i, c := range p.columns() {
		n := "–"
		if i < len(counts) {
			n = c.text(counts[i])
		}
		if all && c.name {
			n = ""
		}
		fmt.Fprintf(&b, " | %s", n)
		if c.rate {
			rate := "–"
			if i < len(counts) && d > 0 {
				rate = thousands(int64(float64(counts[i]) / d.Seconds()))
			}
			fmt.Fprintf(&b, " | %s", rate)
		}
	}
	return b.String()
}

// machine describes where the run ran, as rows "name | value".
func machine() []string {
	rows := []string{
		fmt.Sprintf("Go | %s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH),
	}
	cpu := fmt.Sprintf("%d", runtime.NumCPU())
	if model := procField("/proc/cpuinfo", "model name"); model != "" {
		cpu += " × " + model
	}
	rows = append(rows, "CPUs | "+cpu)
	if mem := procField("/proc/meminfo", "MemTotal"); mem != "" {
		rows = append(rows, "memory | "+mem)
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		rows = append(rows, "kernel | "+strings.TrimSpace(string(kernel)))
	}
	return rows
}

// procField finds "NAME : VALUE" in one of Linux's text files; "" elsewhere.
func procField(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// commit is what is checked out, "unknown" outside of git.
func commit(root string) string {
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	c, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return "unknown"
	}
	if changed, err := git("status", "--porcelain", "--untracked-files=no"); err != nil || changed != "" {
		c += " with local changes"
	}
	return c
}
