//go:build planted

package sim

import (
	"sync"
	"testing"

	"github.com/wasilo/wasilo/cluster/core"
)

// TestPlantedBugsAreFound: each bug that the core can be built with breaks an invariant within 1,000 seeds.
func TestPlantedBugsAreFound(t *testing.T) {
	defer core.Plant(0)
	for bug := 1; bug <= core.PlantedBugs; bug++ {
		core.Plant(bug) // constant while the simulations of one bug run
		var mu sync.Mutex
		var first *Result
		ran := 0
		sweep(1, 1000, func(r *Result) bool {
			mu.Lock()
			defer mu.Unlock()
			ran++
			if r.Violation != nil && (first == nil || r.Seed < first.Seed) {
				first = r
			}
			return first == nil
		})
		if first == nil {
			t.Errorf("bug %d was not found in %d seeds", bug, ran)
			continue
		}
		t.Logf("bug %2d: seed %3d breaks %s: %.160s", bug, first.Seed, first.Violation.Invariant, first.Violation.Text)
	}
}
