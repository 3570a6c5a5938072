package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/wasilo/wasilo/serfwatch"
)

// childArg is the argument by which this binary is a process that serves another run of it: it reads a spec and then orders from
// its input, a line of JSON each, answers each by a line, and ends with its input, so that it never outlives whoever started it.
const childArg = "serve-bench"

// spec is what such a process is.
type spec struct {
	Role    string // one of the roles below
	ID      string // of the node
	CA      string // directory of the authority
	Dir     string // for what the process keeps
	Join    string // gossip address of a node, "" for none
	Profile serfwatch.Profile
	Fixture string // of testdata/wasm, "" for none
}

// The roles.
const (
	roleFloor = "floor" // echoes the floors' frames
	roleLink  = "link"  // a link whose handler echoes
	roleNode  = "node"  // a whole node
	roleAlone = "alone" // a whole node without others, with the fixture
)

// order is what a process is told to do.
type order struct {
	Do   string
	File string `json:",omitempty"`
	Load *load  `json:",omitempty"`
	// Crowd is who is called.
	Crowd *crowd `json:",omitempty"`
}

// The orders.
const (
	doCPU     = "cpu"     // tell the CPU time used
	doGC      = "gc"      // collect garbage
	doProfile = "profile" // profile the CPU into File, or end that
	doHosts   = "hosts"   // tell which nodes host the kind of a load's actors
	doActors  = "actors"  // tell which of its actors live here
	doDrive   = "drive"   // call the actors of Load until it is collected, or another one comes
	doMark    = "mark"    // watch from now on
	doMissing = "missing" // tell how many callers of actors that were lost have not been answered anew
	doCollect = "collect" // end the load and tell what it met
	doCall    = "call"    // call the Crowd, once
	doRest    = "rest"    // wait until every actor is warm
	doSleep   = "sleep"   // hibernate every actor, or passivate it
	doForget  = "forget"  // drop the sleepers of the Crowd's kind
	doWeigh   = "weigh"   // tell what the process weighs
)

// told is what a process answers.
type told struct {
	Err    string        `json:",omitempty"`
	Addr   string        `json:",omitempty"` // once: of the floor, or of the link
	Gossip string        `json:",omitempty"` // once
	CPU    time.Duration `json:",omitempty"`
	Names  []string      `json:",omitempty"` // of nodes or actors
	N      int           `json:",omitempty"`
	Met    []met         `json:",omitempty"`
	Weight *weight       `json:",omitempty"`
}

// process is another process, from the side of the one that started it. Its methods are called one at a time.
type process struct {
	spec
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	at   told // what it said first
	dead bool
}

// endTime bounds how long a process takes to end once its input has.
const endTime = 10 * time.Second

// startProcess starts a process and waits until it serves. It ends with the part of the bench.
func startProcess(ctx context.Context, b *bench, s spec) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{spec: s, cmd: exec.CommandContext(ctx, self, childArg)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	b.onEnd(func() {
		if p.dead {
			return
		}
		p.in.Close()
		hurry := time.AfterFunc(endTime, func() { _ = p.cmd.Process.Kill() })
		defer hurry.Stop()
		if err := p.cmd.Wait(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s %s: %v\n", s.Role, s.ID, err)
		}
	})
	p.at, err = p.exchange(s)
	return p, err
}

// ask gives an order and waits for the answer.
func (p *process) ask(o order) (told, error) { return p.exchange(o) }

func (p *process) exchange(v any) (t told, err error) {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	if err == nil {
		line, err = p.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &t)
	}
	if err == nil && t.Err != "" {
		err = errors.New(t.Err)
	}
	if err != nil {
		err = fmt.Errorf("%s %s, process %d: %w", p.Role, p.ID, p.cmd.Process.Pid, err)
	}
	return t, err
}

// end sends a signal that ends the process, and waits until it has.
func (p *process) end(s os.Signal) error {
	p.dead = true
	if err := p.cmd.Process.Signal(s); err != nil {
		return err
	}
	err := p.cmd.Wait()
	if s == os.Kill {
		return nil // its status says so
	}
	return err
}
