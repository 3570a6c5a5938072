package serfwatch

import (
	"log/slog"
)

// tell logs what is new in a picture.
func (w *Watch) tell(before, now *picture) {
	was, is := before.used(), now.used()
	for id, p := range is {
		old, known := was[id]
		switch {
		case id == w.cfg.ID && p.Boot == w.cfg.Boot:
		case !known:
			w.log.Info("a node is here", nodeAttrs(p)...)
		case old.Boot != p.Boot && p.Boot != w.cfg.Boot:
			w.log.Info("another run of a node has its id", nodeAttrs(p)...)
		}
	}
	for id, p := range was {
		if _, still := is[id]; !still {
			w.tellGone(p, now)
		}
	}
	w.tellIgnored(now)
	w.tellDuplicates(now)
}

func (w *Watch) tellGone(p Peer, now *picture) {
	status := Status("forgotten")
	for _, q := range now.peers {
		if q.ID == p.ID && q.Boot == p.Boot {
			status = q.Status
		}
	}
	if status == Left {
		w.log.Info("a node has left", nodeAttrs(p)...)
		return
	}
	w.log.Warn("a node is lost: it does not answer", append(nodeAttrs(p), "status", status)...)
}

func nodeAttrs(p Peer) []any {
	return []any{"node", p.ID, "link", p.Authority, "gossip", p.Gossip, "mode", p.Mode.String(), "boot", bootText(p.Boot)}
}

// tellIgnored warns once of each member that is left out and why, and again if it comes back.
func (w *Watch) tellIgnored(now *picture) {
	told := make(map[ignored]struct{}, len(now.ignored))
	for _, i := range now.ignored {
		told[i] = struct{}{}
		if _, known := w.told[i]; !known {
			w.lines.warn(slog.LevelWarn, "ignored", "a member of the gossip is ignored: "+i.reason, "gossip", i.gossip, "name", i.name)
		}
	}
	w.told = told
}

// tellDuplicates warns once of each two live nodes with one id. That passes by itself where a node was started again before its end was
// noticed.
func (w *Watch) tellDuplicates(now *picture) {
	told := make(map[[2]uint64]struct{})
	for _, pair := range now.duplicates() {
		used, other := pair[0], pair[1]
		key := [2]uint64{used.Boot, other.Boot}
		told[key] = struct{}{}
		if _, known := w.toldPairs[key]; known {
			continue
		}
		if used.Authority == other.Authority || used.Gossip == other.Gossip {
			continue // the newer run has the address of the older, which is dead therefore
		}
		attrs := []any{"node", used.ID, "used", used.Gossip, "used_link", used.Authority, "ignored", other.Gossip,
			"ignored_link", other.Authority}
		if other.ID == w.cfg.ID && other.Boot == w.cfg.Boot && other.Status == Alive {
			w.log.Error("another live node has this node's id and is newer: the others use that one; give each node its own id", attrs...)
			w.closeSuperseded()
			continue
		}
		w.lines.warn(slog.LevelWarn, "duplicate", "two live nodes have one id: the newer is used, the other ignored; "+
			"unless the node was started again just now, give each its own id", attrs...)
	}
	w.toldPairs = told
}

func (w *Watch) closeSuperseded() {
	select {
	case <-w.superseded:
	default:
		close(w.superseded)
	}
}
