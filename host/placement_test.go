package host

import (
	"context"
	"strings"
	"testing"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
)

// Weights reach every node by gossip, and all place by them alike; a node with another placement does not get in.
func TestPlacementIsTheClusters(t *testing.T) {
	p := newParty(t)
	for id, weight := range map[string]int{"n1": 0, "n2": 4} {
		cfg := p.config(id, counting("count"))
		cfg.Net.Placement, cfg.Net.Weight = "weighted", weight
		p.add(cfg)
	}
	p.agree()
	shares := map[cluster.NodeID]int{}
	for i := range 2000 {
		id, err := abi.NewIdentity("count", strings.Repeat("x", i%7)+string(rune('a'+i%26))+string(rune('0'+i/26%10))+string(rune('0'+i/260)))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := p.nodes["n1"].runtime.View().OwnerOf(id)
		b, _ := p.nodes["n2"].runtime.View().OwnerOf(id)
		if a == nil || b == nil || a.ID != b.ID {
			t.Fatalf("%s is on %v by n1, on %v by n2", id, a, b)
		}
		shares[a.ID]++
	}
	if s := shares["n2"]; s < 1450 || s > 1750 {
		t.Errorf("n2, of weight 4 beside 1, has %d of 2000", s)
	}
	cfg := p.config("n3", counting("count"))
	cfg.Net.Placement = "maglev"
	n3, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = n3.Start(context.Background())
	if err == nil {
		t.Fatal("a node with another placement joined")
	}
	for _, want := range []string{"n3", "maglev", "weighted", "--placement"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if abi.CodeOf(err) != abi.ErrInvalidArgument {
		t.Errorf("code %s", abi.CodeOf(err))
	}
	p.agree()
}

func TestPlacementsThatMakeNoSense(t *testing.T) {
	for want, n := range map[string]Net{
		`placement "modulo" is none: rendezvous, weighted, maglev`: {Link: "127.0.0.1:0", Placement: "modulo"},
		"weight 3 counts for nothing":                              {Link: "127.0.0.1:0", Weight: 3},
		"weight 1001: a weight is 1 to 1000":                       {Link: "127.0.0.1:0", Placement: "weighted", Weight: 1001},
		"a client hosts nothing":                                   {Link: "127.0.0.1:0", Placement: "weighted", Weight: 3, Mode: cluster.Client},
	} {
		if _, err := New(Config{Net: n}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", n, err, want)
		}
	}
}
