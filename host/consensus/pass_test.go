package consensus

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/cluster/core"
)

// passing is a voter, as an office sees it, beside n1, n2 and n3.
type passing struct {
	leader core.NodeID
	leads  bool
	asked  []string
	answer func(node core.NodeID, service string, payload []byte) ([]byte, error)
}

func (p *passing) Propose(_ context.Context, entry []byte) ([]byte, uint64, error) {
	commands, err := core.ReadEntry(entry)
	return core.AppendResults(nil, make([]core.Result, len(commands))), 1, err
}

func (p *passing) Barrier(context.Context) error { return nil }

func (p *passing) Leadership() (Leadership, <-chan struct{}) {
	return Leadership{Leading: p.leads, Term: 1, Leader: p.leader, Authority: "10.0.0.9:1"}, nil
}

func (p *passing) askOf(_ context.Context, node core.Member, service string, payload []byte) ([]byte, error) {
	p.asked = append(p.asked, string(node.ID)+" "+service)
	return p.answer(node.ID, service, payload)
}

func (p *passing) isVoter(id core.NodeID) bool { return id == "n1" || id == "n2" || id == "n3" }

func openOffice(t *testing.T, p *passing) *Office {
	strategy, _ := cluster.StrategyNamed("")
	o := NewOffice(NewLog(strategy, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	var voter proposer = p
	o.voter.Store(&voter)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Run(ctx, p)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return o
}

// What a voter passes on counts for the node that it is from; what another node passes on counts for nothing, and what a node says for another
// is refused on both legs.
func TestCommandsAreBelievedOfVotersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := openOffice(t, &passing{leader: "n1", leads: true})
		voter := &passing{leader: "n1"}
		voter.answer = func(node core.NodeID, service string, payload []byte) ([]byte, error) {
			return leader.Services()[service](t.Context(), "n2", payload)
		}
		second := openOffice(t, voter)
		open := core.AppendEntry(nil, core.Command{Type: core.OpenSession, Node: "n4", Authority: "10.0.0.4:1", Boot: 1})

		b, err := second.Services()[passService](t.Context(), "n4", appendProposal(nil, open))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := readOutcome(b); err != nil || !out.led {
			t.Errorf("%+v, %v", out, err)
		}
		if len(voter.asked) != 1 || voter.asked[0] != "n1 "+forService {
			t.Errorf("it asked %v", voter.asked)
		}
		for name, do := range map[string]func() ([]byte, error){
			"a node that is no voter": func() ([]byte, error) {
				return leader.Services()[forService](t.Context(), "n5", appendPassed(nil, "n4", open))
			},
			"a node for another": func() ([]byte, error) {
				return second.Services()[passService](t.Context(), "n5", appendProposal(nil, open))
			},
			"a voter with what the node may not ask for": func() ([]byte, error) {
				return leader.Services()[forService](t.Context(), "n2", appendPassed(nil, "n5", open))
			},
		} {
			if _, err := do(); abi.CodeOf(err) != abi.ErrDenied {
				t.Errorf("%s: %v", name, err)
			}
		}
		// A second voter that does not lead says so, and asks nobody.
		third := &passing{leader: "n1"}
		b, err = openOffice(t, third).Services()[forService](t.Context(), "n2", appendPassed(nil, "n4", open))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := readOutcome(b); err != nil || out.led || out.leader.ID != "n1" || len(third.asked) != 0 {
			t.Errorf("%+v, %v; it asked %v", out, err, third.asked)
		}
	})
}

// FuzzPassed: what can be read is written the same.
func FuzzPassed(f *testing.F) {
	f.Add(appendPassed(nil, "n1", []byte("entry")))
	f.Add([]byte{0x83, 1, 0x60, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		from, entry, err := readPassed(b)
		if err != nil {
			return
		}
		from2, entry2, err := readPassed(appendPassed(nil, from, entry))
		if err != nil || from2 != from || !bytes.Equal(entry, entry2) {
			t.Fatalf("%s %x became %s %x: %v", from, entry, from2, entry2, err)
		}
	})
}
