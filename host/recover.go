package host

import (
	"context"
	"log/slog"

	"github.com/wasilo/wasilo/cluster/core"
	"github.com/wasilo/wasilo/host/consensus"
)

// Recovered is what [RecoverVoters] has made.
type Recovered struct {
	Cluster    string   `json:"cluster"`
	Voter      string   `json:"voter"`      // the only one there is now
	Generation uint32   `json:"generation"` // of the log from now on
	Index      uint64   `json:"index"`      // of its last entry
	Lost       []string `json:"lost"`       // voters that are none any more
}

// RecoverVoters makes the voter whose data directory dir is the only one of its cluster, for when a majority of them is lost for good: see
// consensus.Recover for what that costs, and what must not run meanwhile. Errors are those of package consensus.
func RecoverVoters(ctx context.Context, dir string, log *slog.Logger) (Recovered, error) {
	cluster, id, err := consensus.Whose(dir)
	if err != nil {
		return Recovered{}, err
	}
	r := Recovered{Cluster: cluster, Lost: []string{}}
	found, err := consensus.Recover(ctx, consensus.RecoverConfig{Dir: dir, Cluster: cluster, Self: id.Node, Machine: consensus.NewLog(nil, log), Log: log,
		Raise: func(snapshot []byte) ([]byte, error) {
			raised, err := core.Raised(snapshot)
			if err != nil {
				return nil, err
			}
			table, err := core.ReadSnapshot(raised)
			if err != nil {
				return nil, err
			}
			r.Generation = table.Generation()
			return raised, nil
		}})
	if err != nil {
		return Recovered{}, err
	}
	r.Voter, r.Index = found.ID.String(), found.Index
	r.Lost = append(r.Lost, found.Lost...)
	return r, nil
}
