package host

import (
	"context"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link"
)

// waitsService is what nodes ask each other for to find rings of actors that wait for each other; the silo knows the questions.
const waitsService = "waits"

// waits answers other nodes that ask what actors of this node wait for.
func (n *Node) waits(_ context.Context, _ cluster.NodeID, payload []byte) ([]byte, error) {
	return n.silo.AnswerWaits(payload)
}

var _ link.Service = (*Node)(nil).waits

// askWaits asks another node that; it is the silo's [silo.AskNode].
func (n *network) askWaits(ctx context.Context, node cluster.NodeID, question []byte) ([]byte, error) {
	if t := n.runtime.View().Topology(); t != nil {
		if m, ok := t.Member(node); ok {
			return n.ask(ctx, m, waitsService, question)
		}
	}
	return nil, abi.NewError(abi.ErrUnreachable, "node "+string(node)+" is no member")
}
