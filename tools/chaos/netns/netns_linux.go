package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Network is some hosts and the bridge between them. Its methods may be called from any goroutine.
type Network struct {
	Hosts []*Host
	hub   *Host

	mu    sync.Mutex
	drops []Drop
}

// Host is one namespace, and the thread that is in it.
type Host struct {
	index int
	tid   int
	work  chan func()
	ended chan struct{}
}

// New makes a network of n hosts, 2 to 200. The error is a [MissingError] where the machine lacks something.
func New(n int) (*Network, error) {
	if n < 2 || n > 200 {
		return nil, fmt.Errorf("a network of %d hosts: 2 to 200", n)
	}
	if missing := Missing(); missing != nil {
		return nil, missing
	}
	w := &Network{}
	fail := func(err error) (*Network, error) {
		w.Close()
		return nil, err
	}
	var err error
	if w.hub, err = newHost(-1); err != nil {
		return fail(err)
	}
	if err := w.hub.ip("link add br0 type bridge forward_delay 0", "link set br0 up"); err != nil {
		return fail(err)
	}
	for i := range n {
		h, err := newHost(i)
		if err != nil {
			return fail(err)
		}
		w.Hosts = append(w.Hosts, h)
		port := "port" + strconv.Itoa(i)
		if err := w.hub.ip("link add "+port+" type veth peer name eth0 netns "+strconv.Itoa(h.tid),
			"link set "+port+" master br0", "link set "+port+" up"); err != nil {
			return fail(err)
		}
		if err := h.ip("link set lo up", "addr add "+Addr(i)+"/24 dev eth0", "link set eth0 up"); err != nil {
			return fail(err)
		}
	}
	return w, nil
}

// Close ends the hosts, and with them what was started there.
func (w *Network) Close() {
	for _, h := range append(slices.Clone(w.Hosts), w.hub) {
		if h != nil {
			close(h.work)
			<-h.ended
		}
	}
}

// Set makes these drops, and none else, what does not arrive.
func (w *Network) Set(drops []Drop) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := make([]error, len(w.Hosts))
	var all sync.WaitGroup
	for i, h := range w.Hosts {
		before, after := from(w.drops, i), from(drops, i)
		if !slices.Equal(before, after) {
			all.Go(func() { errs[i] = h.filter(after) })
		}
	}
	all.Wait()
	w.drops = slices.Clone(drops)
	return errors.Join(errs...)
}

// from lists whose packets a host drops, in order.
func from(drops []Drop, to int) (all []int) {
	for _, d := range drops {
		if d.To == to {
			all = append(all, d.From)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// newHost starts a thread in a network namespace of its own.
func newHost(index int) (*Host, error) {
	h := &Host{index: index, work: make(chan func()), ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(h.ended)
		// Never unlocked: the thread is of no use to others, and ends with this goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		h.tid = unix.Gettid()
		started <- err
		if err != nil {
			return
		}
		for do := range h.work {
			do()
		}
	}()
	if err := <-started; err != nil {
		<-h.ended
		return nil, fmt.Errorf("a network namespace: %w", err)
	}
	return h, nil
}

// Do runs f on the host's thread: sockets that it opens and processes that it starts are the host's. Others wait meanwhile.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	h.work <- func() { done <- f() }
	return <-done
}

// Dial connects from the host. The address must be a literal one.
func (h *Host) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Start starts a process on the host. It is killed when the host ends, or this process does, however it does.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // of the host's thread, which lives as long as the host
	return h.Do(cmd.Start)
}

// ip runs ip(8) on the host, once for each line of arguments.
func (h *Host) ip(lines ...string) error {
	for _, line := range lines {
		if err := h.run("", "ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command on the host.
func (h *Host) run(input, name string, args ...string) error {
	path, err := find(name)
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	var out []byte
	err = h.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// filter drops what arrives from some hosts, in one step. It is done where packets arrive: one that its own host will not send is an
// error to whoever sends it, and a network that loses it is not.
func (h *Host) filter(from []int) error {
	if _, err := find("nft"); err == nil {
		return h.run(nftRules(from), "nft", "-f", "-")
	}
	return h.run(iptablesRules(from), "iptables-restore")
}
