package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/link"
)

// A node that does not reach the voter that leads has another voter pass its commands on: it asks that one `consensus.pass`, which asks the leader
// `consensus.for`, with the name of the node that it is for. That name is the word of the one that passes it on, so the leader takes it from voters
// alone: whoever may be elected may put anything into the log anyway. For the same reason nothing of this goes through the link's own
// relays, which any member may be. What was passed on is not passed on again.
const (
	passService = "consensus.pass"
	forService  = "consensus.for"
)

// passer is what passing on takes beside [proposer]: a [Voter] has it.
type passer interface {
	askOf(ctx context.Context, node core.Member, service string, payload []byte) ([]byte, error)
	isVoter(id core.NodeID) bool
}

func (v *Voter) askOf(ctx context.Context, node core.Member, service string, payload []byte) ([]byte, error) {
	return v.cfg.Network.Ask(ctx, node, service, payload)
}

// isVoter reports whether a node is a voter of the last configuration.
func (v *Voter) isVoter(id core.NodeID) bool {
	members, _ := v.Voters()
	return slices.ContainsFunc(members, func(m Member) bool { return m.ID.Node == id })
}

var _ passer = (*Voter)(nil)

var errNoPasser = abi.NewError(abi.ErrNotReady, "this node's voter is not open yet")

func (o *Office) passer() (passer, error) {
	if v := o.voter.Load(); v != nil {
		if p, ok := (*v).(passer); ok {
			return p, nil
		}
	}
	return nil, errNoPasser
}

// pass puts commands of a node into the log through the voter that leads, which is this one or another.
func (o *Office) pass(ctx context.Context, from core.NodeID, entry []byte) (outcome, error) {
	p, err := o.passer()
	if err != nil {
		return outcome{}, err
	}
	leader := o.leader()
	if leader.ID == "" || leader.ID == from {
		return outcome{leader: leader}, nil
	}
	out, err := o.submit(ctx, from, entry) // which also sees whether the node may ask for it
	if err != nil || out.led || out.leader.ID == "" {
		return out, err
	}
	b, err := p.askOf(ctx, out.leader, forService, appendPassed(nil, from, entry))
	if err != nil {
		return outcome{}, fmt.Errorf("node %s leads the voters, and cannot be asked: %w", out.leader.ID, err)
	}
	return readOutcome(b)
}

// passed puts commands into the log that another voter has of a node.
func (o *Office) passed(ctx context.Context, via, from core.NodeID, entry []byte) (outcome, error) {
	p, err := o.passer()
	if err != nil {
		return outcome{}, err
	}
	if !p.isVoter(via) {
		o.out.Warn("a node that is no voter passed on commands of another", "node", via, "from", from)
		return outcome{}, abi.NewError(abi.ErrDenied, fmt.Sprintf("node %s is no voter, and passes on commands of node %s", via, from))
	}
	return o.submit(ctx, from, entry)
}

// passServices are those of this file.
func (o *Office) passServices() map[string]link.Service {
	answer := func(out outcome, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return out.append(nil), nil
	}
	return map[string]link.Service{
		passService: func(ctx context.Context, from core.NodeID, payload []byte) ([]byte, error) {
			entry, err := readProposal(payload)
			if err != nil {
				return nil, err
			}
			return answer(o.pass(ctx, from, entry))
		},
		forService: func(ctx context.Context, via core.NodeID, payload []byte) ([]byte, error) {
			from, entry, err := readPassed(payload)
			if err != nil {
				return nil, err
			}
			return answer(o.passed(ctx, via, from, entry))
		},
	}
}

// passOn has a voter of another node pass commands on to the one that leads.
func (a *asker) passOn(ctx context.Context, voter core.Member, entry []byte) (outcome, error) {
	b, err := a.network.Ask(ctx, voter, passService, appendProposal(nil, entry))
	if err != nil {
		return outcome{}, err
	}
	return readOutcome(b)
}

// unreached reports whether a voter was not asked since this node does not reach it.
func unreached(err error) bool {
	var e *link.Error
	return errors.As(err, &e) && e.Code == abi.ErrUnreachable
}

func appendPassed(b []byte, from core.NodeID, entry []byte) []byte {
	b = abi.AppendText(abi.AppendUint(abi.AppendArray(b, 3), wireVersion), string(from))
	return abi.AppendBytes(b, entry)
}

func readPassed(b []byte) (from core.NodeID, entry []byte, err error) {
	r := abi.NewReader(b)
	versioned(&r, 3)
	from, entry = core.NodeID(r.Text()), r.Bytes()
	if r.Err() == nil && core.CheckNodeID(from) != nil {
		r.Fail("it is of no node")
	}
	return from, entry, finish(&r, "a proposal that is passed on")
}
