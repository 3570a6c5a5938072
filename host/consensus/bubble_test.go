package consensus

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaderIsCutOff: real raft in a bubble with a clock of its own, with the timeouts of production. When nothing comes through to the
// leader or from it any more, it steps down after its lease, the others have another one in a few timeouts, and when it is back, it
// follows. A follower notices after 0.5 to 1.5 s, and votes for nobody before it has noticed itself: 0.6 to 2.3 s were seen.
func TestLeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w := newWorld(t, m, abc...)
		w.start([]func(*VoterConfig){func(c *VoterConfig) { c.Heartbeat, c.Election, c.Lease = 0, 0, 0 }}, abc...)
		w.propose("one")
		for round := range 5 {
			old := w.leader()
			before, _ := old.Leadership()
			m.isolate(old.id, true)
			began := time.Now()
			deposed := make(chan time.Duration, 1)
			go func() {
				for {
					l, changed := old.Leadership()
					if !l.Leading {
						deposed <- time.Since(began)
						return
					}
					<-changed
				}
			}()
			next := w.leaderBut(old)
			found := time.Since(began)
			after, _ := next.Leadership()
			down := <-deposed
			if found > 4*time.Second || after.Term <= before.Term {
				t.Errorf("round %d: another leader after %s, term %d after %d", round, found, after.Term, before.Term)
			}
			if l, _ := old.Leadership(); l.Leading || down > time.Second {
				t.Errorf("round %d: the old leader stepped down after %s: %+v", round, down, l)
			}
			t.Logf("round %d: stepped down after %s, another leader's barrier after %s", round, down, found)
			m.isolate(old.id, false)
			for {
				l, changed := old.Leadership()
				if l.Leader != "" && l.Term >= after.Term {
					break
				}
				<-changed
			}
			w.propose("again")
		}
		for _, n := range w.sorted() {
			n.machine.await(t, 6)
		}
	})
}

// leaderBut waits until a voter other than one leads, and has committed something.
func (w *world) leaderBut(old *node) *node {
	for range 10_000 {
		for _, n := range w.sorted() {
			if l, _ := n.Leadership(); n != old && l.Leading && n.Barrier(w.t.Context()) == nil {
				return n
			}
		}
		time.Sleep(5 * time.Millisecond) // of the bubble's clock
	}
	w.t.Fatalf("no leader but %s", old.id)
	return nil
}
