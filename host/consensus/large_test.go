package consensus

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wasilo/wasilo/cluster/core"
)

// narrow is a proposer that refuses entries above the limit of a [Voter].
type narrow struct {
	*seat
	refused atomic.Int64
}

func (n *narrow) Propose(ctx context.Context, entry []byte) ([]byte, uint64, error) {
	if len(entry) > defaultMaxEntry {
		n.refused.Add(1)
		return nil, 0, refuse(ErrRefused, "an entry of %d bytes", len(entry))
	}
	return n.seat.Propose(ctx, entry)
}

// TestOfficeCutsLargeEntries: proposals that wait together are written together as far as an entry may be large: otherwise all of them would be
// refused, and with them the renewals of nodes that have nothing to do with it.
func TestOfficeCutsLargeEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChamber(100*time.Millisecond, "v1")
		c.lead("v1")
		s := c.seats["v1"]
		n := &narrow{seat: s}
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		work.Go(func() { s.office.Run(ctx, n) })
		defer work.Wait()
		defer cancel()
		kinds := make([]string, 4000)
		for i := range kinds {
			kinds[i] = fmt.Sprintf("k%d-%s", i, strings.Repeat("x", 50))
		}
		small := core.SessionID(s.put(t, "small", opening("small", "kind"))[0].ID)
		var asks sync.WaitGroup
		ask := func(node core.NodeID, cmd core.Command) {
			asks.Go(func() {
				out, err := s.office.submit(ctx, node, core.AppendEntry(nil, cmd))
				if err != nil || !out.led {
					t.Errorf("%s of %s: %+v, %v", cmd.Type, node, out.led, err)
				}
			})
		}
		ask("first", opening("first")) // goes alone, and while it is on its way the others gather
		synctest.Wait()
		for i := range 12 {
			node := core.NodeID(fmt.Sprint("large", i))
			ask(node, opening(node, kinds...))
		}
		ask("small", core.Command{Type: core.RenewSession, Session: small})
		asks.Wait()
		if k := n.refused.Load(); k != 0 {
			t.Errorf("%d entries were too large", k)
		}
		if e, _ := s.office.Entries(); e > 9 {
			t.Errorf("%d entries for 15 proposals", e)
		}
	})
}

// TestOfficeCutsLargePlans: what the leader decides is put into the log piece by piece where it is too much for one entry. Whole it would be
// refused, decided again, and refused for ever.
func TestOfficeCutsLargePlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, groups = 64, 200
		c := newChamber(time.Millisecond, "v1")
		s := c.seats["v1"]
		for i := range nodes { // each pair of kinds has other hosts, and so a group of its own
			var kinds []string
			for g := range groups {
				if i != g%nodes && (i+g/nodes)%7 > 0 {
					kinds = append(kinds, fmt.Sprint("kind-", g))
				}
			}
			id := core.NodeID(fmt.Sprint("n", i))
			c.mu.Lock()
			c.apply(core.AppendEntry(nil, opening(id, kinds...)))
			c.mu.Unlock()
		}
		c.lead("v1")
		n := &narrow{seat: s}
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		work.Go(func() { s.office.Run(ctx, n) })
		defer work.Wait()
		defer cancel()
		time.Sleep(2 * time.Second) // before the sessions end
		synctest.Wait()
		if k := n.refused.Load(); k > 0 {
			t.Errorf("%d entries were too large", k)
		}
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		for _, g := range s.log.table.Groups() {
			for p := range g.Slots {
				if g.Slots[p].Owner == 0 {
					t.Fatalf("%d groups; of %v nobody has been given partition %d", len(s.log.table.Groups()), g.Kinds, p)
				}
			}
		}
	})
}
