package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/host/link/ca"
	"github.com/wasilo/wasilo/serfwatch"
)

const failoverNote = "Three nodes as processes of their own, in a cluster over loopback with gossip and mutual TLS, 1,000 native actors. Each actor has\n" +
	"a caller of its own, in the process of a node that is not the actor's, which calls it every 50 ms: gaps contain that. A call has\n" +
	"10 s, within which the node that it came to tries again by itself. In each run two nodes are joined by a third, which then leaves\n" +
	"(SIGTERM); of three others one is killed (SIGKILL); of three others one is stopped (SIGSTOP). The machine of a process that was\n" +
	"killed says so to whoever connects; one that was stopped takes what it is sent, and nothing comes back, as when a machine or its\n" +
	"network is lost. Each actor of a node that is lost has a second caller, through the other node, whose calls have 1 s. Activations\n" +
	"are told apart by a number that they answer with."

const (
	failoverActors = 1000
	callEvery      = 50 * time.Millisecond
	settleFor      = time.Second // of calls before and after what is watched
)

// failover runs every profile, and returns the tables.
func failover(ctx context.Context, b *bench) (string, error) {
	dir, err := b.tempDir()
	if err != nil {
		return "", err
	}
	base := spec{Role: roleNode, CA: filepath.Join(dir, "ca"), Dir: dir}
	if _, err := ca.Init(base.CA, ca.Options{}); err != nil {
		return "", err
	}
	var all []*profileRuns
	for _, name := range b.profiles {
		p := &profileRuns{profile: serfwatch.Profile(name)}
		if !slices.Contains(serfwatch.Profiles(), p.profile) {
			return "", fmt.Errorf("no profile %q; there are %q", name, serfwatch.Profiles())
		}
		all = append(all, p)
		runs := b.rounds
		if p.profile != serfwatch.Fast {
			runs = (runs + 1) / 2
		}
		for run := range runs {
			fmt.Fprintf(os.Stderr, "failover: profile %s, run %d of %d\n", name, run+1, runs)
			base.Profile = p.profile
			for i, part := range []func(*world, context.Context, *profileRuns) error{(*world).comeAndGo, (*world).kill, (*world).stop} {
				w := &world{b: b, base: base}
				w.base.Dir = filepath.Join(dir, fmt.Sprint(name, run, i))
				if err := errors.Join(part(w, ctx, p), w.close()); err != nil {
					return "", fmt.Errorf("profile %s, run %d: %w", name, run+1, err)
				}
			}
		}
	}
	return failoverTables(all), nil
}

// profileRuns is what the runs of one profile came to.
type profileRuns struct {
	profile                 serfwatch.Profile
	join, leave, kill, stop []change
}

// change is what the callers met while a node came, went or was lost.
type change struct {
	began   time.Time
	took    time.Duration // until all was settled
	met     []met         // of the actors that were to stay
	lost    []met         // of those whose node was lost, by callers with time
	eager   []met         // by callers without
	noticed time.Duration // until no node that is left took the lost one for a host
}

// comeAndGo lets a third node join two, and leave them.
func (w *world) comeAndGo(ctx context.Context, p *profileRuns) error {
	if err := w.add(ctx, 2); err != nil {
		return err
	}
	if err := w.watch(false, &p.join, func(*change) error { return w.add(ctx, 1) }); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	err := w.watch(false, &p.leave, func(*change) error {
		if err := w.pop().end(syscall.SIGTERM); err != nil {
			return err
		}
		return w.agree(ctx)
	})
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// kill kills one of three nodes.
func (w *world) kill(ctx context.Context, p *profileRuns) error {
	return w.lose(ctx, &p.kill, func(n *process) error { return n.end(os.Kill) })
}

// stop stops one of three nodes.
func (w *world) stop(ctx context.Context, p *profileRuns) error {
	return w.lose(ctx, &p.stop, func(n *process) error {
		w.gone = append(w.gone, n)
		return n.cmd.Process.Signal(syscall.SIGSTOP)
	})
}

// lose watches the loss of one of three nodes.
func (w *world) lose(ctx context.Context, into *[]change, how func(*process) error) error {
	if err := w.add(ctx, 3); err != nil {
		return err
	}
	err := w.watch(true, into, func(c *change) error {
		last := w.pop()
		if err := how(last); err != nil {
			return err
		}
		return w.recovered(ctx, c, last)
	})
	if err != nil {
		return fmt.Errorf("a lost node: %w", err)
	}
	return nil
}

// watch calls every actor while do is done, and adds what came of it. doomed says that do loses the last node.
func (w *world) watch(doomed bool, into *[]change, do func(c *change) error) error {
	if err := w.drive(w.loads(nil, false)); err != nil { // so that every actor lives where it belongs by now
		return err
	}
	owner, err := w.owners()
	if err != nil {
		return err
	}
	loads, callers := w.loads(owner, doomed), w.all[:2]
	if err := w.drive(loads); err != nil {
		return err
	}
	for _, n := range callers {
		if _, err := n.ask(order{Do: doMark}); err != nil {
			return err
		}
	}
	c := &change{began: time.Now()}
	if err := do(c); err != nil {
		return err
	}
	c.took = time.Since(c.began)
	time.Sleep(settleFor)
	for i, n := range callers {
		t, err := n.ask(order{Do: doCollect})
		if err != nil {
			return err
		}
		l, met := loads[i], t.Met
		c.met, met = append(c.met, met[:len(l.Actors)]...), met[len(l.Actors):]
		c.lost, c.eager = append(c.lost, met[:len(l.Lost)]...), append(c.eager, met[len(l.Lost):]...)
	}
	*into = append(*into, *c)
	return nil
}

// recovered waits until no node places actors on the one that was lost, and all that lived there have answered anew.
func (w *world) recovered(ctx context.Context, c *change, lost *process) error {
	return until(ctx, "the actors of the node that was lost answer", func() (bool, error) {
		missing, hosting := 0, false
		for _, n := range w.all {
			t, err := n.ask(order{Do: doMissing})
			if err != nil {
				return false, err
			}
			missing += t.N
			if t, err = n.ask(order{Do: doHosts}); err != nil {
				return false, err
			}
			hosting = hosting || slices.Contains(t.Names, lost.ID)
		}
		if !hosting && c.noticed == 0 {
			c.noticed = time.Since(c.began)
		}
		return missing == 0 && !hosting, nil
	})
}
