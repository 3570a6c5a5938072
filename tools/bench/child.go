package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link"
	"github.com/wasilo/wasilo/host/link/ca"
)

// child is the life of a process that serves the bench; see [childArg].
func child(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	var s spec
	if err := nextLine(lines, &s); err != nil {
		return err
	}
	c := &served{}
	first, err := c.start(&s)
	if err != nil {
		first.Err = err.Error()
	}
	answers := json.NewEncoder(out)
	for answer := first; ; {
		if err := answers.Encode(&answer); err != nil {
			return err
		}
		var o order
		switch err := nextLine(lines, &o); {
		case errors.Is(err, io.EOF):
			return nil // and everything ends with the process
		case err != nil:
			return err
		}
		if answer, err = c.obey(&o); err != nil {
			answer = told{Err: err.Error()}
		}
	}
}

func nextLine(r *bufio.Reader, v any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// served is what the process runs.
type served struct {
	node    *host.Node // of roleNode
	driver  *driver
	profile *os.File
}

func (c *served) start(s *spec) (told, error) {
	switch s.Role {
	case roleFloor:
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return told{}, err
		}
		go echoFrames(ln)
		return told{Addr: ln.Addr().String()}, nil
	case roleLink:
		l, ln, err := openLink(s, echoHandler{})
		if err != nil {
			return told{}, err
		}
		go func() {
			if err := l.Serve(ln); err != nil {
				fmt.Fprintln(os.Stderr, "bench: link:", err)
			}
		}()
		return told{Addr: ln.Addr().String()}, nil
	case roleNode:
		n, err := openNode(s, cluster.Member)
		if err != nil {
			return told{}, err
		}
		if err := n.Start(context.Background()); err != nil {
			return told{}, err
		}
		c.node = n
		go leaveOnSignal(n)
		return told{Addr: n.LinkAddr(), Gossip: n.GossipAddr()}, nil
	}
	if s.Role == roleAlone {
		n, err := openAlone(s)
		if err != nil {
			return told{}, err
		}
		if err := n.Start(context.Background()); err != nil {
			return told{}, err
		}
		for _, f := range n.Files() {
			if f.Error != "" {
				return told{}, fmt.Errorf("%s: %s", f.Path, f.Error)
			}
		}
		c.node = n
		return told{}, nil
	}
	return told{}, fmt.Errorf("no role %q", s.Role)
}

// leaveOnSignal ends the process in good order when it is told to, as `wasilo serve` does.
func leaveOnSignal(n *host.Node) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	code := 0
	if err := n.Shutdown(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench: leaving:", err)
		code = 1
	}
	os.Exit(code)
}

func (c *served) obey(o *order) (told, error) {
	switch o.Do {
	case doCPU:
		return told{CPU: cpuTime()}, nil
	case doGC:
		runtime.GC()
		return told{}, nil
	case doProfile:
		return told{}, c.profileTo(o.File)
	case doHosts:
		for _, k := range c.node.Kinds() {
			if k.Name == namedKind {
				return told{Names: k.Nodes}, nil
			}
		}
		return told{}, nil
	case doActors:
		var names []string
		for _, a := range c.node.Actors(gateway.ActorQuery{Kind: namedKind, Limit: 1 << 20}).Actors {
			names = append(names, a.ID)
		}
		return told{Names: names}, nil
	case doDrive:
		if c.driver != nil {
			c.driver.end()
		}
		c.driver = drive(c.node, o.Load)
		return told{}, nil
	case doMark:
		c.driver.mark()
		return told{}, nil
	case doMissing:
		return told{N: c.driver.missing()}, nil
	case doCollect:
		d := c.driver
		c.driver = nil
		return told{Met: d.end()}, nil
	}
	switch o.Do {
	case doCall:
		return told{}, c.call(o.Crowd)
	case doRest:
		return told{}, until(context.Background(), "every actor is warm", func() (bool, error) { return c.node.Population().Hot == 0, nil })
	case doSleep:
		return told{}, c.node.Passivate(context.Background())
	case doForget:
		c.node.ForgetSleepers(o.Crowd.Kind)
		return told{}, nil
	case doWeigh:
		w, err := c.weigh()
		return told{Weight: w}, err
	}
	return told{}, fmt.Errorf("no order %q", o.Do)
}

func (c *served) profileTo(name string) (err error) {
	if name == "" {
		pprof.StopCPUProfile()
		return c.profile.Close()
	}
	if c.profile, err = os.Create(name); err != nil {
		return err
	}
	return pprof.StartCPUProfile(c.profile)
}

// openLink makes a link of its own for a node, and its listener.
func openLink(s *spec, h link.Handler) (*link.Link, net.Listener, error) {
	authority, err := ca.Load(s.CA, ca.Options{})
	if err != nil {
		return nil, nil, err
	}
	credentials, err := authority.Credentials(ca.ID{Cluster: clusterName, Node: s.ID})
	if err != nil {
		return nil, nil, err
	}
	ln, err := link.Listen(context.Background(), "127.0.0.1:0", credentials)
	if err != nil {
		return nil, nil, err
	}
	l, err := link.New(link.Config{Self: cluster.Node{ID: cluster.NodeID(s.ID), Authority: ln.Addr().String()}, Credentials: credentials, Handler: h})
	return l, ln, err
}

type echoHandler struct{}

// Handle implements [link.Handler].
func (echoHandler) Handle(env *abi.Envelope, _ cluster.NodeID, done func([]byte, error)) {
	done(env.Payload, nil)
}
