package cluster

import (
	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

// observer is the runtime as the silo sees it.
type observer Runtime

var _ Observer = (*observer)(nil)

func (o *observer) Started(l Lease) {
	(*Runtime)(o).step(&core.Input{Type: core.Started, Lease: l})
}

func (o *observer) Releasing(l Lease) {
	(*Runtime)(o).step(&core.Input{Type: core.Releasing, Lease: l})
}

func (o *observer) Failed(l Lease, err error) {
	(*Runtime)(o).step(failedInput(l, err))
}

func (o *observer) Terminated(l Lease, reason string) {
	(*Runtime)(o).step(&core.Input{Type: core.Terminated, Lease: l, Reason: reason})
}

func failedInput(l Lease, err error) *core.Input {
	in := &core.Input{Type: core.Failed, Lease: l, Code: abi.ErrActivationFailed, Reason: "unknown"}
	if err != nil {
		in.Code, in.Reason = abi.CodeOf(err), err.Error()
	}
	return in
}
