package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

func (b *bench) preface(doc *strings.Builder) {
	fmt.Fprintf(doc, "# Benchmarks, %s\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	fmt.Fprintf(doc, "`go run ./tools/bench -time %v -rounds %d` on %s/%s, %d CPUs (%s), %s, commit %s.\n\n", b.time, b.rounds,
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuModel(), runtime.Version(), commit())
	doc.WriteString("Medians over the rounds, least and greatest in brackets. The cases of a table run in turn, so that ratios are of\n" +
		"neighbours; absolute figures change with the machine's mood. CPU is that of the whole process, callers included,\n" +
		"and of the process that serves it where that is another.\n" +
		"`of floor` compares with the floor row that is named, round by round: throughput (more is better) and CPU (less is better).\n")
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return "unknown"
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func writeTable(doc *strings.Builder, p part, rows []*measure) {
	fmt.Fprintf(doc, "\n## %s\n\n%s\n\n", p.title, p.note)
	timesOnly := true
	for _, m := range rows {
		timesOnly = timesOnly && m.once != nil
	}
	if timesOnly {
		doc.WriteString("| case | median | least–greatest of the rounds |\n|---|---|---|\n")
		for _, m := range rows {
			fmt.Fprintf(doc, "| %s | %s | %s–%s |\n", m.name, short(median(m.p50)), short(slices.Min(m.p50)), short(slices.Max(m.p99)))
		}
		return
	}
	waits := slices.ContainsFunc(rows, func(m *measure) bool { return m.waitFloor != nil })
	head, rule := "| case | callers | thousand/s | CPU µs/op | p50 | p99 | of floor: throughput | of floor: CPU |", "|---|---|---|---|---|---|---|---|"
	if waits {
		head, rule = head+" of blocking floor: p50 |", rule+"---|"
	}
	doc.WriteString(head + "\n" + rule + "\n")
	for _, m := range rows {
		thousands := make([]float64, len(m.rate))
		for i, r := range m.rate {
			thousands[i] = r / 1000
		}
		fmt.Fprintf(doc, "| %s | %d | %s | %s | %s | %s |", m.name, m.callers, spread(thousands), spread(m.cpu), short(median(m.p50)), short(median(m.p99)))
		if m.floor == nil {
			doc.WriteString(" – | – |")
		} else {
			fmt.Fprintf(doc, " %s of %s | %s |", spread(ratios(m.rate, m.floor.rate)), m.floor.name, spread(ratios(m.cpu, m.floor.cpu)))
		}
		switch {
		case m.waitFloor != nil:
			fmt.Fprintf(doc, " %s |", spread(ratios(m.p50, m.waitFloor.p50)))
		case waits:
			doc.WriteString(" – |")
		}
		doc.WriteString("\n")
	}
}

func spread(v []float64) string {
	return fmt.Sprintf("%s (%s–%s)", figure(median(v)), figure(slices.Min(v)), figure(slices.Max(v)))
}

func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d >= 10*time.Microsecond:
		return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
	}
	return fmt.Sprintf("%.2f µs", d.Seconds()*1e6)
}
