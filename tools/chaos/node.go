package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wasilo/wasilo/host/gateway/client"
	"github.com/wasilo/wasilo/tools/chaos/netns"
)

// Ports of every node, on its own host.
const (
	linkPort   = "7701"
	gossipPort = "7946"
)

// Times that are a failure of the run when they pass.
const (
	startTime = 5 * time.Minute  // modules are compiled
	stopTime  = 90 * time.Second // the node gives itself 80 s
)

// node is one host's wasilo process, or its absence.
type node struct {
	id    string
	host  *netns.Host
	args  []string
	env   []string
	log   string // file of its stderr
	turns string // of its turn log
	http  *client.Client
	fell  func(n *node, why string) // told that the process ended by itself

	mu     sync.Mutex
	wanted bool // it is to run
	cmd    *exec.Cmd
	exited chan struct{}
}

// httpPort differs from node to node, though hosts do too: one transport reaches all, each by its port.
func httpPort(i int) int { return 7700 + 10*i }

// start starts the process. It does not wait for it to be ready.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return fmt.Errorf("%s runs already", n.id)
	}
	f, err := os.OpenFile(n.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(n.args[0], n.args[1:]...)
	cmd.Env, cmd.Stderr = n.env, f
	if err := n.host.Start(cmd); err != nil {
		return fmt.Errorf("%s: %w", n.id, err)
	}
	exited := make(chan struct{})
	n.cmd, n.exited, n.wanted = cmd, exited, true
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		own := n.wanted
		n.cmd = nil
		n.mu.Unlock()
		close(exited)
		if own {
			n.fell(n, fmt.Sprintf("%v: %s", err, n.lastWords()))
		}
	}()
	return nil
}

// signal sends one to the process, if there is one. end: it is expected to end by that.
func (n *node) signal(s syscall.Signal, end bool) (exited <-chan struct{}, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if end {
		n.wanted = false
	}
	if n.cmd == nil {
		gone := make(chan struct{})
		close(gone)
		return gone, nil
	}
	return n.exited, n.cmd.Process.Signal(s)
}

// kill ends the process as a power failure does, and waits for it.
func (n *node) kill() error {
	exited, err := n.signal(syscall.SIGKILL, true)
	if err != nil {
		return fmt.Errorf("%s: %w", n.id, err)
	}
	<-exited
	return nil
}

// stop ends the process as an operator does.
func (n *node) stop() error {
	n.mu.Lock()
	cmd := n.cmd
	n.mu.Unlock()
	exited, err := n.signal(syscall.SIGTERM, true)
	if err != nil {
		return fmt.Errorf("%s: %w", n.id, err)
	}
	select {
	case <-exited:
	case <-time.After(stopTime):
		_, _ = n.signal(syscall.SIGQUIT, false) // what its goroutines do is in its log
		time.Sleep(time.Second)
		return errors.Join(fmt.Errorf("%s has not ended %v after SIGTERM: %s", n.id, stopTime, n.lastWords()), n.kill())
	}
	if cmd != nil && cmd.ProcessState.ExitCode() != 0 {
		return fmt.Errorf("%s left with %v: %s", n.id, cmd.ProcessState, n.lastWords())
	}
	return nil
}

// ready waits until the node says that it is.
func (n *node) ready(ctx context.Context) error {
	var last error
	for began := time.Now(); time.Since(began) < startTime; {
		if last = n.isReady(ctx, 10*time.Second); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		n.mu.Lock()
		gone := n.cmd == nil && !n.wanted
		n.mu.Unlock()
		if gone {
			break
		}
	}
	return fmt.Errorf("%s is not ready: %w: %s", n.id, last, n.lastWords())
}

func (n *node) isReady(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := n.http.Ready(ctx)
	return err
}

// lastWords are the end of the node's log.
func (n *node) lastWords() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

// says reports whether the node has logged something.
func (n *node) says(what string) bool {
	text, err := os.ReadFile(n.log)
	return err == nil && bytes.Contains(text, []byte(what))
}

// outcries lists lines of the node's log that no node may write.
func (n *node) outcries() (all []string) {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(text) {
		for _, bad := range []string{"panic:", "fatal error:", "DATA RACE", "panicked", "has gaps"} {
			if bytes.Contains(line, []byte(bad)) {
				all = append(all, n.id+": "+strings.TrimSpace(string(line)))
			}
		}
	}
	return all
}

// nodeArgs are the command line of the i-th node.
func (c *config) nodeArgs(i int) []string {
	id, addr := name(i), netns.Addr(i)
	own := filepath.Join(c.dir, id)
	args := []string{c.binary, "serve", "--id", id, "--cluster", clusterName, "--profile", "lan",
		"--link", addr + ":" + linkPort, "--gossip", addr + ":" + gossipPort, "--http", fmt.Sprintf("127.0.0.1:%d", httpPort(i)),
		"--ca", filepath.Join(own, "ca.crt"), "--cert", filepath.Join(own, id+".crt"), "--key", filepath.Join(own, id+".key"),
		"--gossip-key", filepath.Join(own, "gossip.key"),
		"--actors", filepath.Join(c.dir, "actors"), "--data", filepath.Join(own, "data"), "--cache", filepath.Join(c.dir, "cache"),
		// A volatile actor keeps its value while it keeps its place; one that hibernates does so now and then.
		"--idle", "1h", "--hibernate", "3s", "--max-bytes", "1GiB", "--turn-log", filepath.Join(own, "turns.jsonl")}
	for k := range c.nodes {
		args = append(args, "--join", netns.Addr(k)+":"+gossipPort)
	}
	if c.mode == modeQuorum {
		if i < c.voters {
			var all []string
			for k := range c.voters {
				all = append(all, name(k)+"="+netns.Addr(k)+":"+linkPort)
			}
			args = append(args, "--voters", strings.Join(all, ","))
		} else {
			args = append(args, "--quorum")
		}
	}
	return args
}
