package serfwatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/cluster"
)

func TestNodesJoinLeaveAndCrash(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(3, nil)
		n4 := w.start("n4", n[2])
		for _, node := range append(n, n4) {
			node.sees(time.Minute, "n1", "n2", "n3", "n4")
			node.sees(time.Minute, "n1@10.0.0.1:7701", "n2@10.0.0.2:7701", "n3@10.0.0.3:7701", "n4@10.0.0.4:7701")
		}
		if err := n4.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, node := range n {
			node.sees(time.Minute, "n1", "n2", "n3")
			node.says("INFO", "a node has left", "node=n4")
		}
		_ = n[1].Close()
		for _, node := range []*node{n[0], n[2]} {
			node.sees(time.Minute, "n1", "n3")
			node.says("WARN", "a node is lost", "node=n2", "gossip=10.0.0.2:7946", "status=failed")
		}
		status := make(map[cluster.NodeID]Status)
		for _, p := range n[0].Peers() {
			status[p.ID] = p.Status
		}
		if status["n1"] != Alive || status["n2"] != Failed || status["n3"] != Alive || status["n4"] != Left {
			t.Errorf("peers: %v", status)
		}
	})
}

// How soon a view follows, on the fake clock and a network without delay: the figures are logged, and are those of the package's
// documentation.
func TestDetectionTimes(t *testing.T) {
	limit := map[Profile]time.Duration{Fast: time.Minute, Local: 5 * time.Minute, LAN: 5 * time.Minute, WAN: time.Hour}
	for _, profile := range Profiles() {
		t.Run(string(profile), func(t *testing.T) {
			var left, killed, majority, minority, healed []time.Duration
			runs := 2 // WASILO_RUNS=100 for figures
			if n, err := strconv.Atoi(os.Getenv("WASILO_RUNS")); err == nil {
				runs = n
			}
			for range runs {
				bubble(t, func(t *testing.T, w *world) {
					within := limit[profile]
					n := w.cluster(6, func(c *Config) { c.Profile = profile })
					began := time.Now()
					if err := n[5].Leave(t.Context()); err != nil { // leaving waits until the news has spread
						t.Fatal(err)
					}
					for _, node := range n[:5] {
						node.sees(within, "n1", "n2", "n3", "n4", "n5")
					}
					left = append(left, time.Since(began))

					w.partition(n[0], n[1])
					began = time.Now()
					for _, node := range n[2:5] {
						node.sees(within, "n3", "n4", "n5")
					}
					majority = append(majority, time.Since(began))
					for _, node := range n[:2] {
						node.sees(within, "n1", "n2")
					}
					minority = append(minority, time.Since(began))
					w.partition()
					began = time.Now()
					for _, node := range n[:5] {
						node.sees(within, "n1", "n2", "n3", "n4", "n5")
					}
					healed = append(healed, time.Since(began))
					time.Sleep(5 * time.Minute) // suspicions and awareness settle

					_ = n[4].Close()
					began = time.Now()
					for _, node := range n[:4] {
						node.sees(within, "n1", "n2", "n3", "n4")
					}
					killed = append(killed, time.Since(began))
				})
			}
			figures := func(d []time.Duration) string {
				slices.Sort(d)
				return fmt.Sprintf("%.2f/%.2f s", d[len(d)/2].Seconds(), d[len(d)-1].Seconds())
			}
			t.Logf("%s, 5 nodes, p50/max of %d, last node to see it: killed %s; left (Leave included) %s; partition 2|3: "+
				"majority %s, minority %s; healed %s", profile, runs, figures(killed), figures(left), figures(majority), figures(minority),
				figures(healed))
		})
	}
}

func TestANodeStartedAgainAtOnceHasItsId(t *testing.T) {
	for name, boot := range map[string]func(old uint64) uint64{
		"later":              func(uint64) uint64 { return 0 },
		"clock stepped back": func(old uint64) uint64 { return old - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.cluster(3, nil)
				h, err := n[0].Subscribe(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_ = n[2].Close()
				again := w.startWith("n3", func(c *Config) { c.Boot = boot(n[2].cfg.Boot) }, n[0])
				var took time.Duration
				for _, node := range []*node{n[0], n[1], again} {
					took = max(took, node.sees(time.Minute, "n1@10.0.0.1:7701", "n2@10.0.0.2:7701", "n3@10.0.0.4:7701"))
				}
				t.Logf("%s: all see the new run after %s", name, took)
				if name == "later" && took > time.Second {
					t.Errorf("the new run had to wait %s for the end of the old one", took)
				}
				// Whoever followed all along saw n3 at every moment.
				for {
					topology, err := h.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					m, ok := topology.Member("n3")
					if !ok {
						t.Fatal("n3 was gone in between")
					}
					if m.Authority == "10.0.0.4:7701" {
						break
					}
				}
				time.Sleep(time.Minute)
				for _, p := range n[0].Peers() {
					if p.Duplicate {
						t.Errorf("the old run lives on: %+v", p)
					}
				}
			})
		})
	}
}

func TestTwoNodesWithOneId(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		first := w.start("twin", n[0])
		first.sees(time.Minute, "n1", "n2", "twin@10.0.0.3:7701")
		time.Sleep(time.Second)
		second := w.start("twin", n[1])
		for _, node := range []*node{n[0], n[1], first, second} {
			node.sees(time.Minute, "n1@10.0.0.1:7701", "n2@10.0.0.2:7701", "twin@10.0.0.4:7701")
		}
		for _, node := range []*node{n[0], n[1], second} {
			node.says("WARN", "two live nodes have one id", "node=twin", "used=10.0.0.4:7946", "ignored=10.0.0.3:7946")
			select {
			case <-node.Superseded():
				t.Errorf("%s thinks it is superseded", node.cfg.ID)
			default:
			}
		}
		first.says("ERROR", "has this node's id", "used=10.0.0.4:7946", "ignored=10.0.0.3:7946")
		<-first.Superseded()
		time.Sleep(3 * time.Minute)
		if c := strings.Count(n[0].log.String(), "two live nodes"); c != 1 {
			t.Errorf("warned %d times:\n%s", c, n[0].log)
		}
		_ = second.Close() // the first one has its id again
		for _, node := range []*node{n[0], n[1], first} {
			node.sees(time.Minute, "n1@10.0.0.1:7701", "n2@10.0.0.2:7701", "twin@10.0.0.3:7701")
		}
	})
}

func TestAnotherClusterIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		other := w.startWith("n9", func(c *Config) { c.Cluster = "other" }, n[0])
		time.Sleep(time.Minute)
		other.sees(time.Minute, "n9")
		n[0].sees(time.Minute, "n1", "n2")
		n[0].says("WARN", "gossip from another cluster was refused", "other", "10.0.0.3:7946")
		other.says("WARN", "cannot join the cluster", "seed=10.0.0.1:7946", "another cluster name")
		if lines := strings.Count(n[0].log.String(), "another cluster"); lines > 20 {
			t.Errorf("%d lines in a minute:\n%s", lines, n[0].log)
		}
	})
}

func TestGossipKeys(t *testing.T) {
	key := func(b byte) []byte { return slices.Repeat([]byte{b}, 32) }
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, func(c *Config) { c.Keys = [][]byte{key(1)} })
		wrong := w.startWith("wrong", func(c *Config) { c.Keys = [][]byte{key(2)} }, n[0])
		none := w.start("none", n[0])
		time.Sleep(time.Minute)
		wrong.sees(time.Minute, "wrong")
		none.sees(time.Minute, "none")
		n[0].sees(time.Minute, "n1", "n2")
		for _, stranger := range []*node{wrong, none} {
			stranger.says("WARN", "cannot join the cluster", "seed=10.0.0.1:7946", "another gossip key")
			n[0].says("WARN", "gossip with a wrong key, or none, was refused", stranger.port.addr)
		}
		both := w.startWith("both", func(c *Config) { c.Keys = [][]byte{key(1), key(2)} }, n[0])
		both.sees(time.Minute, "both", "n1", "n2")
		for _, k := range []byte{1, 2} {
			for _, node := range w.nodes {
				if strings.Contains(node.log.String(), string(key(k))) || strings.Contains(node.log.String(), fmt.Sprintf("%x", key(k))) {
					t.Error("a key is in the log")
				}
			}
		}
	})
}

func TestClientsAreListedOnly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		c := w.startWith("c1", func(c *Config) { c.Mode, c.Authority = cluster.Client, "" }, n[0])
		c.sees(time.Minute, "n1", "n2")
		time.Sleep(10 * time.Second)
		n[0].sees(time.Minute, "n1", "n2")
		peers := n[0].Peers()
		if len(peers) != 3 || peers[0].ID != "c1" || peers[0].Mode != cluster.Client || peers[0].Status != Alive {
			t.Errorf("peers: %+v", peers)
		}
		n[0].says("a node is here", "node=c1", "mode=client")
	})
}

func TestTagsReachTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n1 := w.start("n1")
		full := func(c *Config) { // to the last byte of 512
			c.Tags = map[string]string{"http": "10.0.0.2:8080", "x": ""}
			for checkSize(c.said().tags()) == nil {
				c.Tags["x"] += "é"
			}
			c.Tags["x"] = strings.TrimSuffix(c.Tags["x"], "é")
			if c.Tags["x"] += "e"; checkSize(c.said().tags()) != nil {
				c.Tags["x"] = strings.TrimSuffix(c.Tags["x"], "e")
			}
		}
		n2 := w.startWith("n2", func(c *Config) { c.Cluster, c.Boot = "wasilo", 1<<60; full(c) }, n1)
		n1.sees(time.Minute, "n1", "n2")
		if meta := n2.serf.Memberlist().LocalNode().Meta; len(meta) < 511 || len(meta) > 512 {
			t.Errorf("%d bytes of tags", len(meta))
		}
		p := n1.Peers()[1]
		if p.Tags["http"] != "10.0.0.2:8080" || p.Tags["x"] != n2.cfg.Tags["x"] || len(p.Tags) != 2 || p.Gossip != "10.0.0.2:7946" {
			t.Errorf("%+v", p)
		}
		p.Tags["http"] = "changed"
		if n1.Peers()[1].Tags["http"] == "changed" {
			t.Error("what Peers returns is shared")
		}
		_, err := New(Config{ID: "n3", Authority: "10.0.0.3:7701", Tags: map[string]string{
			"x": n2.cfg.Tags["x"] + "xx", "http": n2.cfg.Tags["http"]}})
		if err == nil || !strings.Contains(err.Error(), "of 512") || !strings.Contains(err.Error(), "Tags") {
			t.Errorf("tags that are too long: %v", err)
		}
	})
}

func TestLeavingIsCutShort(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		err := n[1].Leave(ctx)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Leave: %v", err)
		}
		if again := n[1].Leave(t.Context()); again == nil || again.Error() != err.Error() {
			t.Errorf("Leave again: %v", again)
		}
		n[0].sees(time.Minute, "n1")
		began := time.Now() // nobody to tell
		if err := n[0].Leave(t.Context()); err != nil || time.Since(began) > 0 {
			t.Errorf("the last one left with %v after %s", err, time.Since(began))
		}
	})
}

func TestStartsAndStops(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		seed := w.start("seed")
		for i := range 50 {
			n := w.start("n", seed)
			n.sees(time.Minute, "n", "seed")
			end := n.Close
			if i%2 == 0 {
				end = func() error { return n.Leave(t.Context()) }
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if n.Err() != ErrClosed || n.Close() != nil {
				t.Fatal("it is not closed well")
			}
		}
		seed.sees(time.Minute, "seed")
		if p := seed.Peers(); len(p) != 2 {
			t.Errorf("of 50 runs %d are listed", len(p)-1)
		}
		time.Sleep(forget + time.Minute)
		if p := seed.Peers(); len(p) != 1 {
			t.Errorf("%d runs are not forgotten", len(p)-1)
		}
	})
}
