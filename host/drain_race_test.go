package host

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/wasilo/wasilo/host/consensus"
)

// What a node hosts changes while a drain begins or is taken back: neither goes back to what the other found.
func TestHostsChangeWithADrain(t *testing.T) {
	q := &quorum{cfg: &Config{}, resident: consensus.NewResident(consensus.ResidentConfig{Log: slog.New(slog.DiscardHandler)})}
	for i := range 5000 {
		kinds, is := []string{fmt.Sprint("kind-", i)}, i%2 == 0
		var both sync.WaitGroup
		both.Go(func() { q.setDraining(is) })
		both.Go(func() { q.host(kinds) })
		both.Wait()
		if !slices.Equal(q.kinds, kinds) || q.draining != is {
			t.Fatalf("it hosts %v, draining %t; want %v, %t", q.kinds, q.draining, kinds, is)
		}
	}
}
