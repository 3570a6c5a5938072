package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// chaos runs tools/chaos, one seed a target. The report of each run stays in the soak's directory, those of failed runs with all that it
// takes to judge them again.
type chaos struct{}

func (chaos) name() string { return "chaos" }
func (chaos) about() string {
	return "a real cluster in network namespaces under attack, one seed after another"
}
func (chaos) usual() time.Duration { return 75 * time.Second }
func (chaos) columns() []column {
	return []column{{title: "faults"}, {title: "successes", rate: true}, {title: "of them during faults"}, {title: "refused"}, {title: "unknown"},
		{title: "epochs"}, {title: "turn records"}, {title: "lived twice"}, {title: "violations"}}
}

func (chaos) targets(_ context.Context, s *settings) (all []string, err error) {
	for seed := 1; seed <= s.runs; seed++ {
		if t := fmt.Sprintf("mixed %s %d", s.mode, seed); s.match.MatchString(t) {
			all = append(all, t)
		}
	}
	return all, nil
}

// run makes a whole run: one that was interrupted is made again.
func (chaos) run(ctx context.Context, s *settings, target string, d time.Duration, _ func(stretch)) (stretch, error) {
	plan := strings.Fields(target)
	dir := filepath.Join(s.dir, "chaos", strings.Join(plan, "-"))
	bin := filepath.Join(s.dir, "bin")
	for name, pkg := range map[string]string{"chaos": "./tools/chaos", "wasilo": "./host/cmd/wasilo"} {
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, name), pkg)
		build.Dir = s.root
		if out, err := build.CombinedOutput(); err != nil {
			return stretch{}, fmt.Errorf("building %s: %w\n%s", pkg, err, out)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return stretch{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "chaos"), "-plan", plan[0], "-mode", plan[1], "-seed", plan[2], "-time", d.String(),
		"-wasilo", filepath.Join(bin, "wasilo"), "-out", dir)
	cmd.Dir = s.root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return stretch{}, nil
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return stretch{}, err
	}
	got, failure := chaosRun(dir)
	switch {
	case err == nil && failure == nil:
	case failure == nil:
		got.failure = tail(string(out)) + "\nreport: " + filepath.Join(dir, "report.html")
	default: // there is no summary
		return stretch{}, fmt.Errorf("%w: %v\n%s", failure, err, tail(string(out)))
	}
	return got, nil
}

// chaosRun reads the summary of a run.
func chaosRun(dir string) (stretch, error) {
	text, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if err != nil {
		return stretch{}, err
	}
	var r struct {
		Length    float64 `json:"length"` // seconds
		Faults    int64   `json:"faults"`
		Successes int64   `json:"successes"`
		During    int64   `json:"during"`
		Refused   int64   `json:"refused"`
		Unknown   int64   `json:"unknown"`
		Epochs    int64   `json:"epochs"`
		Turns     int64   `json:"turn_records"`
		Double    int64   `json:"double_lives"`
		Findings  []struct {
			Promised bool  `json:"promised"`
			Found    int64 `json:"found"`
		} `json:"findings"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return stretch{}, fmt.Errorf("%s: %w", filepath.Join(dir, "summary.json"), err)
	}
	violations := int64(0)
	for _, f := range r.Findings {
		if f.Promised {
			violations += f.Found
		}
	}
	spent, err := time.ParseDuration(strconv.FormatFloat(r.Length, 'f', -1, 64) + "s")
	if err != nil {
		return stretch{}, err
	}
	return stretch{spent: spent, counts: []int64{r.Faults, r.Successes, r.During, r.Refused, r.Unknown, r.Epochs, r.Turns, r.Double, violations}}, nil
}

// tail is the end of a program's output.
func tail(out string) string {
	const most = 30
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
