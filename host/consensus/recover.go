package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/cluster/core"
)

// RecoverConfig says what [Recover] works on.
type RecoverConfig struct {
	// Dir, Cluster and Self are those of VoterConfig. Required.
	Dir, Cluster string
	Self         core.NodeID
	// Authority is that of VoterConfig; "" is where the log has this voter.
	Authority string
	// Machine takes what the log holds. It is of no use afterwards. Required.
	Machine Machine
	// Raise makes of the state that was recovered the one that the log goes on from: it raises the generation, so that every epoch of it
	// is above all that the lost voters may have given out. Required.
	Raise func(snapshot []byte) ([]byte, error)
	// Log takes the log; nil is slog.Default().
	Log *slog.Logger
}

// Recovered is what [Recover] found.
type Recovered struct {
	ID    RaftID   // from now on
	Index uint64   // of the last entry that is in the log now
	Lost  []string // raft ids of the voters that are voters no more
}

// Recover makes a voter the only one of its log, for when a majority is lost for good. No node of the cluster may run, this one
// included, and the lost voters' directories must never be started again: two of three would be a majority of the old log. All entries
// on this disk count from then on, also those that no majority had; what only the lost voters had is gone.
//
// The new generation and the new configuration are one snapshot, which is there whole or not at all: raft's way to recover writes one
// anyway, so an entry in the log, which could be lost between two crashes, is not needed. The voter has another raft id in it, so that no log of
// before names anybody of whom one of afterwards is: such a log must not go on where this one does, for it would never be sent the snapshot.
// It may be repeated, also after it was interrupted.
func Recover(ctx context.Context, cfg RecoverConfig) (Recovered, error) {
	none := Recovered{}
	if cfg.Dir == "" || cfg.Cluster == "" || cfg.Machine == nil || cfg.Raise == nil {
		return none, errors.New("the log cannot be recovered: Dir, Cluster, Machine or Raise is missing")
	}
	if cfg.Authority != "" {
		if _, err := checkVoters([]core.Member{{ID: cfg.Self, Authority: cfg.Authority}}); err != nil {
			return none, err
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	d, id, err := openDisk(cfg.Dir, cfg.Cluster, cfg.Self, cfg.Log, seam{})
	if err != nil {
		return none, err
	}
	r, err := d.recover(id, cfg)
	return r, errors.Join(err, d.close(err == nil))
}

func (d *disk) recover(id RaftID, cfg RecoverConfig) (Recovered, error) {
	if fresh, err := d.unwritten(); err != nil || fresh {
		return Recovered{}, errors.Join(err, refuse(ErrRefused, "there is no log in %s to recover: name the data directory of a voter", d.dir))
	}
	var before raft.Configuration
	if err := d.shield(func() (err error) { before, err = d.lastConfiguration(); return err }); err != nil {
		return Recovered{}, err
	}
	for _, s := range before.Servers {
		if was, authority, err := parseAddress(s.Address); err == nil && was == id && cfg.Authority == "" {
			cfg.Authority = authority
		}
	}
	if cfg.Authority == "" {
		return Recovered{}, refuse(ErrRefused, "%s has no vote in its own log, so it may lack what the others agreed on: recover one that has. "+
			"Its voters are %s", id, serverNames(before.Servers))
	}
	vc := VoterConfig{Log: cfg.Log, Heartbeat: defaultTimeout, Election: defaultTimeout, Lease: defaultTimeout, Commit: defaultCommit,
		SnapshotEvery: defaultSnapshotEvery, Trailing: defaultTrailing, SnapshotCheck: defaultSnapshotCheck}
	next, err := newPassport(d.dir, nextFile, cfg.Cluster, cfg.Self)
	if err != nil {
		return Recovered{}, d.diskError(d.dir, err)
	}
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: next.server(), Address: next.address(cfg.Authority)}}}
	m := &replica{machine: cfg.Machine, change: cfg.Raise}
	if err := d.shield(func() error {
		return raft.RecoverCluster(vc.raft(next), m, d, d, &snapshots{d}, nowhere{}, only)
	}); err != nil {
		return Recovered{}, fmt.Errorf("the log in %s cannot be recovered: %w", d.dir, err)
	}
	switch now, err := d.adopt(id, cfg.Cluster); {
	case err != nil:
		return Recovered{}, err
	case now != next: // raft sorts snapshots of one entry by the time
		return Recovered{}, fmt.Errorf("the log in %s was not recovered: the new snapshot is older than the one before by this machine's clock. Set it, and repeat this", d.dir)
	}
	r := Recovered{ID: next}
	if metas, err := d.snaps.List(); err == nil && len(metas) > 0 {
		r.Index = metas[0].Index
	}
	for _, s := range before.Servers {
		if s.ID != id.server() {
			r.Lost = append(r.Lost, string(s.ID))
		}
	}
	return r, nil
}

// adopt ends a recovery: with the snapshot that it wrote the voter is another one. The log before it goes first, or it would be sent to new voters
// in place of the snapshot. Without that snapshot there was no recovery, and the voter is who it was.
func (d *disk) adopt(id RaftID, clusterName string) (RaftID, error) {
	next, found, err := readPassport(d.dir, nextFile, clusterName, d.node)
	if err != nil || !found {
		return id, err
	}
	metas, err := d.snaps.List()
	if err != nil {
		return id, d.damaged(filepath.Join(d.dir, snapshotDir), err)
	}
	if len(metas) == 0 || !slices.ContainsFunc(metas[0].Configuration.Servers, func(s raft.Server) bool { return s.ID == next.server() }) {
		return id, nil
	}
	first, err := d.wal.FirstIndex()
	if err != nil {
		return id, d.damaged(filepath.Join(d.dir, walDir), err)
	}
	if first > 0 && first <= metas[0].Index {
		d.log.Info("a recovery that was interrupted is ended", "voter", next.String(), "first", first, "last", metas[0].Index)
		if err := d.forget(first, metas[0].Index); err != nil {
			return id, err
		}
	}
	if err = os.Rename(filepath.Join(d.dir, nextFile), filepath.Join(d.dir, passportFile)); err == nil {
		err = syncDir(d.dir)
	}
	if err != nil {
		return id, d.diskError(d.dir, err)
	}
	return next, nil
}

func serverNames(servers []raft.Server) string {
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = string(s.ID)
	}
	return strings.Join(names, ", ")
}

// lastConfiguration is the one that the log ends with.
func (d *disk) lastConfiguration() (raft.Configuration, error) {
	var c raft.Configuration
	metas, err := d.snaps.List()
	if err != nil {
		return c, err
	}
	if len(metas) > 0 {
		c = metas[0].Configuration
	}
	first, err := d.FirstIndex()
	if err != nil {
		return c, err
	}
	last, err := d.LastIndex()
	if err != nil {
		return c, err
	}
	var l raft.Log
	for i := first; i > 0 && i <= last; i++ {
		if err := d.GetLog(i, &l); err != nil {
			return c, err
		}
		if l.Type == raft.LogConfiguration && (len(metas) == 0 || l.Index > metas[0].ConfigurationIndex) {
			c = raft.DecodeConfiguration(l.Data)
		}
	}
	return c, nil
}

// nowhere is the transport of a voter that speaks to nobody.
type nowhere struct{ raft.Transport }

func (nowhere) Consumer() <-chan raft.RPC                               { return nil }
func (nowhere) LocalAddr() raft.ServerAddress                           { return "" }
func (nowhere) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (nowhere) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (nowhere) SetHeartbeatHandler(func(raft.RPC))                      {}
