package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

func TestChaosTargets(t *testing.T) {
	s, _ := newSettings(t)
	s.mode, s.runs, s.match = "quorum", 12, regexp.MustCompile(" 1.?$")
	got, err := chaos{}.targets(t.Context(), s)
	if want := []string{"mixed quorum 1", "mixed quorum 10", "mixed quorum 11", "mixed quorum 12"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q %v", got, err)
	}
}

func TestChaosSummary(t *testing.T) {
	dir := t.TempDir()
	if _, err := chaosRun(dir); err == nil {
		t.Error("there is no summary")
	}
	text := `{"length":90.5,"faults":7,"successes":20000,"during":9000,"refused":3,"unknown":4,"epochs":5,"turn_records":6,"double_lives":8,
		"findings":[{"promised":true,"found":2},{"promised":false,"found":100},{"promised":true,"found":1}],"more":1}`
	if err := os.WriteFile(filepath.Join(dir, "summary.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := chaosRun(dir)
	if err != nil || got.spent != 90500*time.Millisecond || !slices.Equal(got.counts, []int64{7, 20000, 9000, 3, 4, 5, 6, 8, 3}) ||
		len(got.counts) != len(chaos{}.columns()) {
		t.Errorf("%+v %v", got, err)
	}
}
