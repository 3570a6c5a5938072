package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

const (
	meetTime = 30 * time.Second       // nodes that start together may take until each is connected to all
	meetLook = 100 * time.Millisecond // and are asked as often
	askTime  = 10 * time.Second       // for all of them to answer
)

// fleet is several nodes, each a process of its own, that live no longer than this one.
type fleet struct {
	a       *app
	log     *slog.Logger
	stderr  io.Writer       // of this process
	mu      *sync.Mutex     // of stderr
	life    context.Context // its end kills what still runs
	signals chan os.Signal
	nodes   []*fleetNode
	gone    chan *fleetNode // each node once, when its process has ended
}

// fleetNode is one node of a fleet.
type fleetNode struct {
	announcement // once it is ready
	plan         nodePlan
	args         []string  // of its command line
	leash        io.Closer // closing it ends the node gracefully
	err          error     // of the process; set before it is sent to gone
	ended        bool
}

// runFleet runs n nodes until a signal, or until all have ended. The first signal ends them gracefully, a second one at once.
func (a *app) runFleet(ctx context.Context, c settings, flags *pflag.FlagSet, n int, data string) error {
	plans, err := planNodes(&c, n, data)
	if err != nil {
		return err
	}
	if err := checkActorsDir(c.host.ActorsDir); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := &fleet{a: a, stderr: a.stderr, mu: new(sync.Mutex), life: ctx, signals: make(chan os.Signal, 2), gone: make(chan *fleetNode, n)}
	f.log = newLogger(f.writer(""), c.logLevel, c.logFormat, a.env)
	signal.Notify(f.signals, endSignals()...)
	defer signal.Stop(f.signals)

	stopped, err := f.start(&c, flags, plans)
	if err != nil || stopped {
		return errors.Join(err, f.stop(cancel))
	}
	if c.logFormat != "json" {
		f.banner(c.host.ActorsDir)
	}
	if a.output == outputJSON {
		nodes := make([]announcement, 0, n)
		for _, node := range f.nodes {
			nodes = append(nodes, node.announcement)
		}
		if err := a.printJSON(map[string]any{"nodes": nodes}); err != nil {
			return errors.Join(err, f.stop(cancel))
		}
	}
	for f.running() > 0 {
		select {
		case s := <-f.signals:
			f.log.Info("shutting all nodes down; another signal ends them at once", "signal", s.String())
			return f.stop(cancel)
		case node := <-f.gone:
			node.ended = true
			f.log.Warn("a node has ended", "node", node.plan.id, "pid", node.PID, "how", how(node.err), "running", f.running())
			if c.logFormat != "json" {
				f.mu.Lock()
				fmt.Fprintf(f.stderr, "\nTo bring %s back, in another terminal:\n\n  %s\n\n", node.plan.id, f.again(node))
				f.mu.Unlock()
			}
		}
	}
	return errors.New("all nodes have ended")
}

// again is the command line that runs a node anew, off the leash, where it was, with somebody who runs to join.
func (f *fleet) again(node *fleetNode) string {
	line := selfCommand()
	for i := 0; i < len(node.args); i++ {
		arg := node.args[i]
		switch arg {
		case "--" + leashFlag:
			continue
		case "--join":
			i++ // it may be gone
			continue
		case "--http":
			i++
			arg += " " + strings.TrimPrefix(node.URL, "http://")
		case "--link":
			i++
			arg += " " + node.Link
		case "--gossip":
			i++
			arg += " " + node.Gossip
		default:
			arg = gateway.ShellWord(arg)
		}
		line += " " + arg
	}
	for _, other := range f.nodes {
		if !other.ended {
			line += " --join " + other.Gossip
		}
	}
	return line
}

// writer writes whole lines to stderr.
func (f *fleet) writer(prefix string) *lineWriter {
	return &lineWriter{mu: f.mu, w: f.stderr, prefix: prefix}
}

func (f *fleet) running() (n int) {
	for _, node := range f.nodes {
		if !node.ended {
			n++
		}
	}
	return n
}

// start starts the first node, whose gossip the others join, then those, and waits until all are connected to each other: what is
// called before may be started on one node and then again on another. It reports whether a signal came meanwhile.
func (f *fleet) start(c *settings, flags *pflag.FlagSet, plans []nodePlan) (stopped bool, err error) {
	first := ""
	batches := [][]nodePlan{plans[:1], plans[1:]}
	if plans[0].quorum { // none is ready before a majority of the voters is there
		batches, first = [][]nodePlan{plans}, plans[0].gossip
	}
	for _, batch := range batches {
		ready := make(chan announcement, len(batch))
		for _, p := range batch {
			join := first
			if p.gossip == first {
				join = ""
			}
			if err := f.run(p, p.args(c, flags, join), c.logFormat == "json", ready); err != nil {
				return false, err
			}
		}
		for range batch {
			select {
			case said := <-ready:
				f.announced(said)
			case node := <-f.gone:
				node.ended = true
				return false, node.startError()
			case <-f.signals:
				return true, nil
			}
		}
		first = f.nodes[0].Gossip
	}
	return f.meet()
}

// run starts the process of one node.
func (f *fleet) run(p nodePlan, args []string, plain bool, ready chan<- announcement) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("this program cannot be found, to run it for each node: %w", err)
	}
	prefix := p.id + " | "
	if plain { // records, which name the node
		prefix = ""
	}
	cmd := exec.CommandContext(f.life, self, args...)
	cmd.Env = f.a.env
	stderr := f.writer(prefix)
	cmd.Stdout, cmd.Stderr = &announced{to: ready}, stderr
	leash, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("node %s: %w", p.id, err)
	}
	node := &fleetNode{plan: p, args: args, leash: leash}
	node.ID, node.PID = p.id, cmd.Process.Pid
	f.nodes = append(f.nodes, node)
	go func() { // stop waits for it
		node.err = cmd.Wait()
		stderr.end()
		f.gone <- node
	}()
	return nil
}

func (f *fleet) announced(said announcement) {
	for _, node := range f.nodes {
		if node.ID == said.ID {
			said.PID = node.PID
			node.announcement = said
		}
	}
}

// meet waits until every node is connected to every other one, or for [meetTime].
func (f *fleet) meet() (stopped bool, err error) {
	look := time.NewTicker(meetLook)
	defer look.Stop()
	limit := time.NewTimer(meetTime)
	defer limit.Stop()
	for !f.met() {
		select {
		case <-look.C:
		case <-limit.C:
			f.log.Warn("not all nodes are connected to all others yet; wasilo members shows what is between them")
			return false, nil
		case node := <-f.gone:
			node.ended = true
			return false, node.startError()
		case <-f.signals:
			return true, nil
		}
	}
	return false, nil
}

func (f *fleet) met() bool {
	ctx, cancel := context.WithTimeout(f.life, askTime)
	defer cancel()
	for _, node := range f.nodes {
		c, err := client.New(client.Config{URL: node.URL})
		if err != nil {
			return false
		}
		list, err := c.Members(ctx)
		c.Close()
		if err != nil || connected(list) < len(f.nodes) {
			return false
		}
	}
	return true
}

// connected counts the members of a list that the node which answered can send to, itself among them.
func connected(list *gateway.MemberList) (n int) {
	for i := range list.Members {
		if m := &list.Members[i]; m.Self || m.State == gateway.MemberAlive && m.Linked && m.Kinds != nil {
			n++
		}
	}
	return n
}

// stop ends what still runs: gracefully, and at once by kill when a further signal comes or the time is up. It returns when all
// processes have ended.
func (f *fleet) stop(kill context.CancelFunc) error {
	left := f.running()
	for _, node := range f.nodes {
		_ = node.leash.Close()
	}
	stopped := make(chan error, 1)
	go func() {
		var errs []error
		for ; left > 0; left-- {
			if node := <-f.gone; node.err != nil {
				errs = append(errs, fmt.Errorf("node %s: %s", node.plan.id, how(node.err)))
			}
		}
		stopped <- errors.Join(errs...)
	}()
	late := time.AfterFunc(shutdownTime+5*time.Second, kill)
	defer late.Stop()
	err, forced := unlessAnother(f.signals, stopped)
	if forced {
		kill()
		<-stopped
		return errForced
	}
	return err
}

// startError is why a fleet does not come up. What the node itself said is on stderr already.
func (n *fleetNode) startError() error {
	err := fmt.Errorf("node %s did not start (%s); its own words are above", n.plan.id, how(n.err))
	if exit := (*exec.ExitError)(nil); errors.As(n.err, &exit) && exit.ExitCode() == 2 {
		return &usageError{err: err}
	}
	return err
}

// how says how a process ended.
func how(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// banner says what runs, and what to type to see nodes come and go. It is written at once, between the lines of the nodes.
func (f *fleet) banner(dir string) {
	w, first := new(bytes.Buffer), f.nodes[0]
	plural := "s"
	if len(f.nodes) == 1 {
		plural = ""
	}
	fmt.Fprintf(w, "\nwasilo serves %s on %d node%s\n\n", oneLine(dir), len(f.nodes), plural)
	t := newTable(w)
	t.indent = "  "
	for _, n := range f.nodes {
		t.row(n.ID, n.URL, fmt.Sprintf("pid %d", n.PID))
	}
	_ = t.flush()
	self := selfCommand()
	fmt.Fprintf(w, "\nIn another terminal:\n\n")
	if e, ok := f.example(); ok {
		fmt.Fprintf(w, "  %s\n", callLine(self, first.URL, e))
		if len(f.nodes) > 1 {
			fmt.Fprintf(w, "  %s   # the same actor, by way of n2\n", callLine(self, f.nodes[1].URL, e))
		}
	} else {
		fmt.Fprintf(w, "  # nothing is loaded yet: put a .wasm file into %s, every node picks it up at once\n", oneLine(dir))
	}
	members := self + " members"
	if first.URL != client.DefaultURL {
		members += " --node " + first.URL
	}
	fmt.Fprintf(w, "  %s\n", members)
	if first.plan.quorum {
		fmt.Fprintf(w, "  %s   # who keeps the log of who owns what\n", strings.Replace(members, " members", " voters list", 1))
		fmt.Fprintf(w, "  %s drain --node %s   # n%d gives its actors away\n", self, f.nodes[len(f.nodes)-1].URL, len(f.nodes))
	}
	if len(f.nodes) > 1 {
		last := f.nodes[1]
		fmt.Fprintf(w, "  kill -9 %d   # %s, and watch: %s\n", last.PID, last.ID, members)
	}
	fmt.Fprintf(w, "\nCtrl-C ends all.\n\n")
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = f.stderr.Write(w.Bytes())
}

// example is a call to type, of a kind that the first node knows.
func (f *fleet) example() (e gateway.Example, ok bool) {
	c, err := client.New(client.Config{URL: f.nodes[0].URL})
	if err != nil {
		return e, false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(f.life, askTime)
	defer cancel()
	list, err := c.Kinds(ctx)
	if err != nil {
		return e, false
	}
	return gateway.PickExample(list.Kinds)
}

// fleetDataDir is where a fleet keeps things: below the directory that was given, or that of a single node for development.
func fleetDataDir(given string) (dir string, remove func(), err error) {
	if given != "" {
		return given, func() {}, nil
	}
	if dir, remove, err = devDataDir(); err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "nodes"), remove, nil
}
