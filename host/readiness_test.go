package host

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/cluster"
)

func TestB1_4_ADisabledNodeRunsItsActorsAlone(t *testing.T) {
	dir := t.TempDir()
	if err := StatusStore(dir).Save(cluster.Status{Readiness: cluster.ReadinessDisabled, Reason: "moved to another rack"}); err != nil {
		t.Fatal(err)
	}
	var log lines
	n := start(t, Config{ActorsDir: actorsDir(t, "examples.wasm"), CacheDir: filepath.Join(compiled, "cache"), DataDir: dir, Log: log.logger(),
		Net: Net{Link: "127.0.0.1:0", Gossip: "127.0.0.1:0"}})
	if n.net != nil {
		t.Error("it has a link and gossip")
	}
	if got := mustCall(t, n, "counter/c", "add", `{"by":2}`); got != `{"value":2}` {
		t.Error(got)
	}
	if line := log.find("the cluster is disabled on this node"); !strings.Contains(line, "moved to another rack") || !strings.Contains(line, "wasilo status clear") {
		t.Errorf("the log says %q", line)
	}
	if st, err := StatusStore(dir).Load(); st.Readiness != cluster.ReadinessDisabled || err != nil {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestB1_5_ANodeThatFailedDoesNotStartAgain(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), Net: Net{Link: "127.0.0.1:0", Gossip: "127.0.0.1:0"}}
	begin := func() error {
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			return err
		}
		return n.Shutdown(context.Background())
	}
	store := StatusStore(cfg.DataDir)
	if err := begin(); err != nil {
		t.Fatal(err)
	}
	if st, err := store.Load(); st.Readiness != cluster.ReadinessReady || err != nil {
		t.Errorf("after a start: %+v, %v", st, err)
	}
	if err := store.Save(cluster.Status{Readiness: cluster.ReadinessError, Kind: cluster.TopologyUnavailable, Reason: "the seed was on fire"}); err != nil {
		t.Fatal(err)
	}
	var be *cluster.BootstrapError
	if err := begin(); !errors.As(err, &be) || be.Kind != cluster.EarlierFailure || !strings.Contains(err.Error(), "the seed was on fire") {
		t.Errorf("after a failure: %v", err)
	}
	if err := store.Save(cluster.Status{}); err != nil {
		t.Fatal(err)
	}
	if err := begin(); err != nil {
		t.Errorf("cleared: %v", err)
	}
}
