package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestVoterOnAFullDisk: a voter that has no room for its log does not start, and says which disk is full and what to do; when there is room it
// starts, as if nothing had been.
func TestVoterOnAFullDisk(t *testing.T) {
	r := newRealm(t, t.TempDir())
	data := filepath.Join(r.dir, "small")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=4m"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("WASILO_REQUIRE"), ","), "netns") {
			t.Fatalf("a small disk cannot be made: %v", err)
		}
		t.Skipf("a small disk cannot be made: %v", err)
	}
	t.Cleanup(func() { // after the node, which is made later
		if err := syscall.Unmount(data, 0); err != nil {
			t.Error(err)
		}
	})
	link := refusingAddr(t)
	flags := []string{"--data", data, "--link", link, "--voters", "n1=" + link}
	m := r.launch("n1", flags...)
	if code := m.exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"the disk that holds " + data, "is full", "Make room there and start the node again"} {
		if log := m.log.String(); !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	m = r.start("n1", flags...)
	r.until("the voter leads", func() (bool, any) {
		log, err := m.http.Voters(t.Context())
		return err == nil && log.Leader == "n1", err
	})
	r.stop(m)
}
