package host

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/module"
)

func TestOutlook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		says := map[cluster.NodeID]string{"n2": "a.wasm for 1s", "n3": "", "n4": "b.wasm for 2s"}
		others := []cluster.Node{{ID: "n2"}, {ID: "n3"}, {ID: "n4"}, {ID: "gone"}, {ID: "hangs"}, {ID: "babbles"}}
		o := newOutlook(func() []cluster.Node { return others },
			func(ctx context.Context, n cluster.Node, service string, _ []byte) ([]byte, error) {
				asked.Add(1)
				switch n.ID {
				case "gone":
					return nil, errors.New("planted")
				case "hangs":
					<-ctx.Done()
					return nil, ctx.Err()
				case "babbles":
					return []byte{0xff, 1, 2}, nil
				}
				return abi.AppendText(nil, says[n.ID]), nil
			})
		check := func(want string, wantKnown bool, wantAsked int64) {
			t.Helper()
			synctest.Wait()
			text, known := o.look()
			if synctest.Wait(); text != want || known != wantKnown || asked.Load() != wantAsked {
				t.Errorf("%q, known %v, %d questions; want %q, %v, %d", text, known, asked.Load(), want, wantKnown, wantAsked)
			}
		}
		check("", false, 6)
		time.Sleep(outlookTime / 2)
		check("", false, 6) // one hangs still
		time.Sleep(outlookTime / 2)
		check("node n2 is loading a.wasm for 1s, node n4 is loading b.wasm for 2s", true, 6)
		time.Sleep(outlookFresh - 1)
		check("node n2 is loading a.wasm for 1s, node n4 is loading b.wasm for 2s", true, 6)
		others, says["n2"], says["n4"] = others[:3], "", ""
		time.Sleep(time.Nanosecond)
		check("", false, 9)
		check("", true, 9)
		others = nil
		time.Sleep(outlookFresh)
		check("", true, 9) // nobody to ask
		others = []cluster.Node{{ID: "hangs"}}
		check("", false, 10)
		began := time.Now()
		o.close()
		if took := time.Since(began); took != 0 {
			t.Errorf("closing took %v", took)
		}
		check("", true, 10)
	})
}

func TestLoadsText(t *testing.T) {
	now := time.Now()
	var loads []module.Load
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		loads = append(loads, module.Load{Path: "actors/" + name + ".wasm", Since: now.Add(-time.Duration(i) * 1234 * time.Millisecond)})
	}
	if got, want := loadsText(loads, now), "a.wasm for 0s, b.wasm for 1.2s, c.wasm for 2.4s, d.wasm for 3.7s and 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := loadsText(nil, now); got != "" {
		t.Errorf("%q", got)
	}
}
