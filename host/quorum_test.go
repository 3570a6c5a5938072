package host

import (
	"strconv"
	"testing"

	"github.com/wasilo/wasilo/host/gateway"
)

func (p *parliament) three() {
	p.t.Helper()
	p.enter(p.seat("v1", nil, counting("count")), p.seat("v2", nil, counting("count")), p.seat("v3", nil, counting("count")))
}

func TestQuorumNodesShareTheirActors(t *testing.T) {
	p := newParliament(t, 3)
	p.three()
	p.enter(p.seat("c1", nil, counting("count")), p.seat("c2", nil, counting("count")))
	const identities = 300
	for i := range identities {
		for _, via := range p.all {
			mustCall(t, p.nodes[via], "count/"+strconv.Itoa(i), "add", "")
		}
	}
	total := 0
	for id, n := range p.nodes {
		have := len(n.Actors(gateway.ActorQuery{Kind: "count", Limit: identities}).Actors)
		total += have
		if have < identities/20 {
			t.Errorf("%d actors on %s", have, id)
		}
		for i := range identities {
			if got := mustCall(t, n, "count/"+strconv.Itoa(i), "get", ""); got != "5" {
				t.Fatalf("count/%d through %s is %s, want 5", i, id, got)
			}
		}
	}
	if total != identities {
		t.Errorf("%d activations of %d actors", total, identities)
	}
}
