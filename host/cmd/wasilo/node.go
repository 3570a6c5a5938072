package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/host"
)

// shutdownTime is how long a node may take to leave after the first signal.
const shutdownTime = 30 * time.Second

// errForced is the end after a second signal.
var errForced = errors.New("ended at once by a second signal; what was under way is lost")

// runNode starts a node, tells ready, and runs it until a signal or its own end. The first SIGINT or SIGTERM shuts it
// down, a second one returns at once.
func (a *app) runNode(ctx context.Context, c settings, ready func(*host.Node) error) error {
	log := newLogger(a.stderr, c.logLevel, c.logFormat, a.env)
	c.host.Log = log
	if err := checkActorsDir(c.host.ActorsDir); err != nil {
		return err
	}
	node, err := host.New(c.host)
	if err != nil {
		return &usageError{err: err}
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

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
		select {
		case err = <-started:
			if err != nil {
				return nil // it was asked to end, and did
			}
			return a.stopNode(ctx, node, signals)
		case <-signals:
			return errForced
		}
	}
	log.Info("ready", "url", node.URL(), "took", time.Since(began).Round(time.Millisecond))
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

// stopNode shuts the node down, until a second signal.
func (a *app) stopNode(ctx context.Context, node *host.Node, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- node.Shutdown(ctx) }()
	select {
	case err := <-stopped:
		return err
	case <-signals:
		return errForced
	}
}

// announce prints where the node is, for scripts that let it choose a port.
func (a *app) announce(node *host.Node, id string) error {
	if a.output != outputJSON {
		return nil
	}
	return a.printJSON(struct {
		URL string `json:"url"`
		ID  string `json:"id"`
	}{node.URL(), id})
}
