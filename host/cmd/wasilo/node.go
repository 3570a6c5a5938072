package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/turnlog"
)

// shutdownTime is how long a node may take to leave after the first signal. Supervisors should leave it that: systemd does by itself (90 s).
const shutdownTime = host.ShutdownTime

// errForced is the end after a second signal.
var errForced = errors.New("ended at once by a second signal; what was under way is lost")

// sameSignal is how long a further signal counts as the first one. A supervisor may deliver one twice: timeout(1) signals
// its child and then the group that the child is in. Nobody means "at once" so soon.
const sameSignal = 250 * time.Millisecond

// endSignals are those that end a node. A hang-up does too, so that closing a terminal loses nothing, unless it is
// ignored, as under nohup(1).
func endSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// runNode starts a node, tells ready, and runs it until a signal or its own end. The first signal shuts it down, a
// second one returns at once.
func (a *app) runNode(ctx context.Context, c settings, ready func(*host.Node) error) error {
	log := newLogger(a.stderr, c.logLevel, c.logFormat, a.env)
	if c.leash && c.logFormat == "json" { // lines of text are marked by whoever holds the leash
		log = log.With("on", c.host.ID)
	}
	c.host.Log = log
	c.host.HeapLimit = a.heapLimiter(log)
	if c.host.ActorsDir = c.actorsDir(); c.host.ActorsDir != "" {
		if err := checkActorsDir(c.host.ActorsDir); err != nil {
			return err
		}
	}
	if c.turnLog != "" {
		turns, err := turnlog.Open(c.turnLog, c.host.ID, func(err error) { log.Error("the turn log has gaps from here on", "err", err) })
		if err != nil {
			return fmt.Errorf("%w; name another file with --turn-log FILE", err)
		}
		defer turns.Close() // every activation has ended by then
		c.host.Witness = turns
		log.Warn("every turn is written down, to diagnose; leave log.turns out for operation", "file", c.turnLog)
	}
	node, err := host.New(c.host)
	if err != nil {
		return &usageError{err: err}
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endSignals()...)
	defer signal.Stop(signals)
	if c.leash {
		followLeash(a.stdin, signals)
	}

	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	began := time.Now()
	go func() { started <- node.Start(starting) }()
	select {
	case err = <-started:
		if err != nil {
			return err
		}
	case s := <-signals:
		log.Info("stopping before the node is ready", "signal", s.String())
		cancel()
		if err, forced := unlessAnother(signals, started); forced {
			return errForced
		} else if err != nil {
			return nil // it was asked to end, and did
		}
		return a.stopNode(ctx, node, signals)
	}
	log.Info("ready", "url", node.URL(), "took", time.Since(began).Round(time.Millisecond))
	for _, name := range unserved(c.host.Kinds, node.Kinds()) {
		log.Warn("the configuration limits a kind that no module serves; it counts once one does", "kind", name)
	}
	if err := ready(node); err != nil {
		return errors.Join(err, a.stopNode(ctx, node, signals))
	}
	select {
	case s := <-signals:
		log.Info("shutting down; another signal ends at once", "signal", s.String())
	case <-node.Done():
	}
	failed := node.Err()
	err = a.stopNode(ctx, node, signals)
	if err == nil && failed == nil {
		log.Info("stopped")
	}
	return errors.Join(failed, err)
}

// unserved returns the kinds that have limits and no module, sorted: a name that was misspelt shows by nothing else.
func unserved(limits map[string]host.KindLimits, kinds []gateway.KindInfo) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		if !slices.ContainsFunc(kinds, func(k gateway.KindInfo) bool { return k.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// stopNode shuts the node down, until a second signal. That the time for it was over is a failure of the node's, and nobody's deadline: the
// exit code tells the two apart.
func (a *app) stopNode(ctx context.Context, node *host.Node, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- node.Shutdown(ctx) }()
	err, forced := unlessAnother(signals, stopped)
	switch {
	case forced:
		return errForced
	case err != nil:
		return abi.NewError(abi.ErrInternal, "the node did not leave in good order: "+err.Error())
	}
	return nil
}

// unlessAnother waits for done, and returns early with forced at a signal that is not the first one over again, which
// has just come.
func unlessAnother(signals <-chan os.Signal, done <-chan error) (err error, forced bool) {
	for first := time.Now(); ; {
		select {
		case err = <-done:
			return err, false
		case s := <-signals:
			if s != leashSlipped && time.Since(first) >= sameSignal {
				return nil, true
			}
		}
	}
}
