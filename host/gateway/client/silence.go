package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

// Of a node that hangs, or is stopped, the system still accepts connections, and nothing answers on them. So every request has a bound, also
// one whose context has none.
const (
	askTime   = gateway.OperatorTime + 5*time.Second // for what operators ask, longer than a node works on it
	dialTime  = askTime - 5*time.Second              // for a connection: who has none by then is told that
	lookEvery = 10 * time.Second                     // a node is asked so often whether it lives while a call waits that names no time
	lookTime  = askTime - lookEvery                  // to say so, shorter than for a connection: a full backlog is silence too
)

// errSilent is the cause of the end of a context by these bounds.
var errSilent = errors.New("the node does not answer")

// watched is ctx until the node is silent: for a call without a time, whose end only the node knows. end waits for what watched has started.
func (c *Client) watched(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		t := time.NewTicker(lookEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
			// Whatever it says, it lives; a node that leaves closes its port before its last answers.
			look, done := context.WithTimeout(ctx, lookTime)
			var live any
			err := c.get(look, "/livez", &live)
			done()
			if abi.CodeOf(err) == abi.ErrTimeout {
				cancel(errSilent)
			}
		}
	})
	return ctx, func() { cancel(nil); watch.Wait() }
}
