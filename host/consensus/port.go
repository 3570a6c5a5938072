package consensus

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/link"
)

// Names under which voters reach each other over the link.
const (
	helloService = "consensus.hello"
	raftStream   = "consensus.raft"
)

// Port is where other voters reach this node's: it is made before the link, whose configuration takes [Port.Services] and
// [Port.Streams], and given to the voter (VoterConfig.Port), which needs the link. While no voter is open behind it, it answers that.
type Port struct {
	mu    sync.Mutex
	voter *Voter
}

// Services are those to give to link.Config.
func (p *Port) Services() map[string]link.Service {
	return map[string]link.Service{helloService: p.answer}
}

// Streams are those to give to link.Config.
func (p *Port) Streams() map[string]link.StreamHandler {
	return map[string]link.StreamHandler{raftStream: p.take}
}

// attach puts a voter behind the port; false if there is one.
func (p *Port) attach(v *Voter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.voter != nil {
		return false
	}
	p.voter = v
	return true
}

func (p *Port) detach(v *Voter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.voter == v {
		p.voter = nil
	}
}

func (p *Port) present() *Voter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.voter
}

// answer says hello.
func (p *Port) answer(_ context.Context, _ core.NodeID, _ []byte) ([]byte, error) {
	v := p.present()
	if v == nil {
		return nil, abi.NewError(abi.ErrNotActive, "there is no voter on this node, or it is not open: start it with --voters, or on a data directory")
	}
	h := v.hello()
	return appendHello(nil, &h), nil
}

// take has the voter take a stream.
func (p *Port) take(conn net.Conn, from core.NodeID) {
	if v := p.present(); v != nil {
		v.layer.take(conn, from)
		return
	}
	_ = conn.SetDeadline(time.Now().Add(refusalTime))
	sayNo(conn, "there is no voter on this node, or it is not open")
}
