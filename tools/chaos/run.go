package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
	"github.com/wasilo/wasilo/host/turnlog"
	"github.com/wasilo/wasilo/tools/chaos/netns"
	"github.com/wasilo/wasilo/tools/chaos/verdict"
)

const clusterName = "chaos"

// Modes of the cluster.
const (
	modeAvailable = "available"
	modeQuorum    = "quorum"
)

// config is what the command line says.
type config struct {
	plan      string
	mode      string
	seed      uint64
	length    time.Duration // of the faults of plan mixed
	nodes     int
	voters    int
	registers int    // 0: those of the plan
	binary    string // "": it is built
	upgrade   bool   // what is restarted comes back as a newer version
	root      string // the module
	dir       string // of the run
	keep      bool
	steps     []step // nil: those of the plan
	load      *plan  // nil: the plan's
	say       io.Writer
}

// Files of a run, in its directory.
const (
	opsFile     = "ops.jsonl"
	runFile     = "run.json"
	summaryFile = "summary.json"
	reportFile  = "report.html"
	markFile    = ".chaos" // says that the directory is a run's
)

// Waits between the parts of a run.
const (
	warmUp = 3 * time.Second
	after  = 10 * time.Second // of the last fault: by then everything has to be in order (I10)
)

// record is what a run was, beside its history and its turn logs: enough to judge it again.
type record struct {
	Plan   string    `json:"plan"`
	Mode   string    `json:"mode"`
	Seed   uint64    `json:"seed"`
	Nodes  []string  `json:"nodes"`
	Commit string    `json:"commit"`
	Date   time.Time `json:"date"`
	Steps  []string  `json:"steps"`
	// Upgrade says that nodes came back as a newer version.
	Upgrade bool           `json:"upgrade,omitempty"`
	From    int64          `json:"from"` // of the load, CLOCK_MONOTONIC
	To      int64          `json:"to"`
	Spans   []verdict.Span `json:"spans"`
	Sides   []side         `json:"sides"`
	Stalls  []verdict.Span `json:"stalls"` // times in which the machine did not let this program run, nor the nodes, it may be
	Leads   []verdict.Span `json:"leads"`  // which node led the voters when, as far as it was told
	Fell    []string       `json:"fell"`   // nodes that ended by themselves
	Wrong   []string       `json:"wrong"`  // what else went wrong: a panic, a node that does not stop
}

// prepare empties the directory of the run, builds what is to be run, and makes keys and certificates.
func (c *config) prepare(ctx context.Context) error {
	if entries, err := os.ReadDir(c.dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(c.dir, markFile)); err != nil {
			return fmt.Errorf("%s is there, and was not made by this program: name another directory with -out", c.dir)
		}
		if err := os.RemoveAll(c.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(c.dir, "actors"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.dir, markFile), nil, 0o600); err != nil {
		return err
	}
	if c.binary == "" {
		c.binary = filepath.Join(c.dir, "wasilo")
		if err := c.goBuild(ctx, nil, "-o", c.binary, "./host/cmd/wasilo"); err != nil {
			return err
		}
	}
	if c.upgrade {
		if err := c.goBuild(ctx, nil, "-tags", "nextversion", "-o", c.nextBinary(), "./host/cmd/wasilo"); err != nil {
			return err
		}
	}
	err := c.goBuild(ctx, []string{"GOOS=wasip1", "GOARCH=wasm"}, "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-s -w",
		"-o", filepath.Join(c.dir, "actors", "registers.wasm"), "./tools/chaos/guest")
	if err != nil {
		return err
	}
	ca := filepath.Join(c.dir, "ca")
	if err := c.wasilo(ctx, "ca", "init", ca); err != nil {
		return err
	}
	for i := range c.nodes {
		if err := c.wasilo(ctx, "node", "cert", name(i), "--ca", ca, "--cluster", clusterName, "--out", filepath.Join(c.dir, name(i))); err != nil {
			return err
		}
	}
	return nil
}

// nextBinary is a wasilo to come: it speaks versions that the other does not know.
func (c *config) nextBinary() string { return filepath.Join(c.dir, "wasilo-next") }

func (c *config) goBuild(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir, cmd.Env = c.root, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", args[len(args)-1], err, out)
	}
	return nil
}

func (c *config) wasilo(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.binary, args...)
	cmd.Env = c.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("wasilo %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// environment is that of a user who has nothing configured.
func (c *config) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(c.dir, "home")}
}

// attack runs the cluster, the load and the schedule, and leaves the record, the history and the turn logs in the directory.
func (c *config) attack(ctx context.Context) (rec *record, err error) {
	p := plans[c.plan]
	steps := c.steps
	if c.load != nil {
		p = *c.load
	}
	if steps == nil {
		steps = p.schedule(c.seed, c.nodes, c.length)
	}
	rec = &record{Plan: c.plan, Mode: c.mode, Seed: c.seed, Commit: commit(c.root), Date: time.Now().UTC(), Upgrade: c.upgrade}
	for _, s := range steps {
		rec.Steps = append(rec.Steps, fmt.Sprintf("quiet for %v, %s", s.Quiet, s))
	}
	fmt.Fprintf(c.say, "plan %s, mode %s, seed %d, %d nodes: %d faults\n  %s\n", c.plan, c.mode, c.seed, c.nodes, len(steps),
		strings.Join(rec.Steps, "\n  "))

	network, err := netns.New(c.nodes)
	if err != nil {
		return nil, err
	}
	defer network.Close()
	alive, end := context.WithCancel(ctx) // the supervisor
	defer end()
	z := &nemesis{net: network, say: c.say, began: time.Now()}
	if c.upgrade {
		z.next = c.nextBinary()
	}
	defer z.back.Wait()
	defer end()
	transport := c.transport(network)
	defer transport.CloseIdleConnections()
	for i := range c.nodes {
		n := &node{id: name(i), host: network.Hosts[i], args: c.nodeArgs(i), env: c.environment(),
			log: filepath.Join(c.dir, name(i)+".log"), turns: filepath.Join(c.dir, name(i), "turns.jsonl")}
		n.fell = func(n *node, why string) { z.supervise(alive, n, why) }
		if n.http, err = client.New(client.Config{URL: fmt.Sprintf("http://127.0.0.1:%d", httpPort(i)), Transport: transport}); err != nil {
			return nil, err
		}
		z.nodes = append(z.nodes, n)
		rec.Nodes = append(rec.Nodes, n.id)
	}
	defer func() {
		for _, n := range z.nodes {
			_ = n.kill() // whatever is left; a killed process has nothing to say
		}
	}()
	if err := c.bringUp(ctx, z.nodes); err != nil {
		return nil, err
	}

	z.up.Store(true)

	l, err := newLoad(z.nodes, cmp.Or(c.registers, p.actors), p.deadline, c.seed)
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	var watch stalls
	rec.From, z.began = turnlog.Monotonic(), time.Now()
	l.run(ctx, stop, p)
	watch.start(stop)
	z.follow(ctx, stop)
	err = sleep(ctx, warmUp)
	if err == nil {
		err = z.run(ctx, steps)
	}
	if err == nil {
		err = sleep(ctx, after)
	}
	close(stop)
	l.wait()
	rec.Stalls = watch.wait()
	rec.Leads = z.leads.wait()
	if err == nil {
		l.sweep(ctx)
	}
	rec.To = turnlog.Monotonic()
	end() // whoever ends by itself now stays down
	z.back.Wait()
	if err == nil {
		for _, n := range z.nodes {
			if err := n.stop(); err != nil {
				rec.Wrong = append(rec.Wrong, err.Error())
			}
		}
	} else {
		rec.Wrong = append(rec.Wrong, err.Error())
	}
	newer := false
	for _, n := range z.nodes {
		rec.Wrong = append(rec.Wrong, n.outcries()...)
		newer = newer || n.says("written in another version")
	}
	if c.upgrade && !newer {
		rec.Wrong = append(rec.Wrong, "all nodes have come back as a newer version, and the log is not written in it")
	}
	z.mu.Lock()
	rec.Spans, rec.Sides, rec.Fell = z.spans, z.sides, z.fell
	z.mu.Unlock()
	return rec, errors.Join(err, c.write(rec, l.ops))
}

// transport reaches the gateway of each node, on its host's own loopback, by the port.
func (c *config) transport(network *netns.Network) *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true,
		DialContext: func(ctx context.Context, proto, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(port)
			i := (n - httpPort(0)) / 10
			if err != nil || i < 0 || i >= len(network.Hosts) {
				return nil, fmt.Errorf("no node has port %s", port)
			}
			return network.Hosts[i].Dial(ctx, proto, addr)
		}}
}

// bringUp starts the first node, which compiles the modules for all, then the others, and waits until all see all.
func (c *config) bringUp(ctx context.Context, nodes []*node) error {
	fmt.Fprintf(c.say, "starting %d nodes\n", len(nodes))
	// In quorum mode no node is ready alone, and they compile beside each other.
	alone := c.mode == modeAvailable
	for i, n := range nodes {
		if err := n.start(); err != nil {
			return err
		}
		if i == 0 && alone {
			if err := n.ready(ctx); err != nil {
				return err
			}
		}
	}
	for _, n := range nodes {
		if err := n.ready(ctx); err != nil {
			return err
		}
	}
	for began := time.Now(); ; {
		missing := c.unseen(ctx, nodes)
		if missing == "" {
			return nil
		}
		if time.Since(began) > startTime {
			return fmt.Errorf("the nodes do not find each other: %s", missing)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// unseen says who does not see whom yet, "" if all see all.
func (c *config) unseen(ctx context.Context, nodes []*node) string {
	for _, n := range nodes {
		list, err := n.http.Members(ctx)
		if err != nil {
			return err.Error()
		}
		seen := 0
		for _, m := range list.Members {
			if m.State == gateway.MemberAlive && len(m.Kinds) > 0 && (m.Self || m.Linked) {
				seen++
			}
		}
		if seen < len(nodes) {
			return fmt.Sprintf("%s sees %d of %d", n.id, seen, len(nodes))
		}
	}
	return ""
}

// commit is what is checked out.
func commit(root string) string {
	cmd := exec.Command("git", "describe", "--always", "--dirty")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// machine says where the run ran.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d CPUs, Linux %s, %s", runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}
