package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
	"github.com/wasilo/wasilo/serfwatch"
)

const (
	// pace is the default: nodes that get no CPU for a while, since the machine is busy or compiles, are not given up for it.
	pace = string(serfwatch.LAN)
	// hangs is when something that ends in its own time counts as never ending. It takes minutes to compile a Go module with the race
	// detector.
	hangs = 5 * time.Minute
)

// TestCluster runs real nodes, processes of this binary on loopback with real gossip and real certificates, and treats them as
// machines and people do. What they share is the user's home: one development authority, and modules compiled once.
func TestCluster(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct {
		name string
		run  func(*testing.T, string)
		idle bool // it waits most of the time, for gossip
	}{
		{"Life", testClusterLife, false},
		{"Actors", testClusterActors, false},
		{"Client", testClusterClient, false},
		{"Hostile", testClusterHostile, false},
		{"Rolling", testClusterRolling, true},
		{"Again", testClusterAgain, true},
		{"Frozen", testClusterFrozen, true},
		{"Merged", testClusterMerged, true},
		{"Strangers", testClusterStrangers, true},
		{"Refused", testClusterRefused, true},
		{"Contradiction", testClusterContradiction, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.idle {
				t.Parallel()
			}
			c.run(t, home)
		})
	}
}

// realm is a cluster of processes.
type realm struct {
	t    *testing.T // that runs now
	all  *testing.T // at the end of which the processes end
	home string
	dir  string // of the nodes' data and modules
	name string // of the cluster: ports are used again, and with them what else runs here might be met
	seed string // gossip address of the first node
	up   map[string]*member
}

func newRealm(t *testing.T, home string) *realm {
	dir := t.TempDir()
	name := fmt.Sprintf("c%08x", crc32.ChecksumIEEE([]byte(dir)))
	return &realm{t: t, all: t, home: home, dir: dir, name: name, up: make(map[string]*member)}
}

// run makes a part of the test a subtest.
func (r *realm) run(name string, part func(*testing.T)) {
	r.all.Run(name, func(t *testing.T) {
		r.t = t
		defer func() { r.t = r.all }()
		part(t)
	})
}

// member is one process of a realm.
type member struct {
	http *client.Client
	announcement
	r      *realm
	cmd    *exec.Cmd
	client bool // it hosts nothing
	log    logBuffer
	said   chan announcement
	exited chan struct{} // closed when the process has ended
}

// modules makes a directory of prebuilt modules.
func (r *realm) modules(names ...string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "actors-"+strings.Join(names, "-"))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for _, name := range names {
		wasm, err := os.ReadFile(filepath.Join("../../../testdata/wasm", name))
		if err != nil {
			r.t.Fatalf("a prebuilt module is missing: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), wasm, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return dir
}

// launch starts a node that joins the others and serves examples.wasm; later flags override. It does not wait.
func (r *realm) launch(id string, flags ...string) *member {
	r.t.Helper()
	args := []string{"serve", "-o", "json", "--id", id, "--cluster", r.name, "--profile", pace, "--turn", hangs.String(), "--request", hangs.String(),
		"--http", "127.0.0.1:0", "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--actors", r.modules("examples.wasm"),
		"--data", filepath.Join(r.dir, "data-"+id), "--cache", filepath.Join(r.home, "compiled")}
	if r.seed != "" {
		args = append(args, "--join", r.seed)
	}
	m := &member{r: r, cmd: r.command(append(args, flags...)...), client: slices.Contains(flags, "client"),
		said: make(chan announcement, 1), exited: make(chan struct{})}
	m.cmd.Stdout, m.cmd.Stderr = &announced{to: m.said}, &m.log
	m.cmd.WaitDelay = hangs // nobody else has its pipes
	if err := m.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		defer close(m.exited)
		_ = m.cmd.Wait()
	}()
	r.all.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.exited
		if r.all.Failed() {
			r.all.Logf("[stderr of %s, process %d]\n%s", id, m.cmd.Process.Pid, m.log.String())
		}
	})
	return m
}

// command is this binary as a user types it who has nothing configured.
func (r *realm) command(args ...string) *exec.Cmd {
	cmd := exec.Command("wasilo", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.home, "XDG_CONFIG_HOME=" + filepath.Join(r.home, "config"),
		"XDG_CACHE_HOME=" + filepath.Join(r.home, "cache"), "GORACE=" + os.Getenv("GORACE")}
	return cmd
}

// ready waits until a node serves, and counts it among those that are up.
func (r *realm) ready(m *member) *member {
	r.t.Helper()
	select {
	case m.announcement = <-m.said:
	case <-m.exited:
		r.t.Fatalf("a node ended with %d instead of serving:\n%s", m.cmd.ProcessState.ExitCode(), m.log.String())
	case <-time.After(hangs):
		r.t.Fatalf("a node hangs at its start:\n%s", m.log.String())
	}
	var err error
	if m.http, err = client.New(client.Config{URL: m.URL}); err != nil {
		r.t.Fatal(err)
	}
	r.all.Cleanup(m.http.Close)
	r.up[m.ID] = m
	if r.seed == "" {
		r.seed = m.Gossip
	}
	return m
}

func (r *realm) start(id string, flags ...string) *member {
	r.t.Helper()
	return r.ready(r.launch(id, flags...))
}

// three starts n1, n2 and n3, and waits until they agree.
func (r *realm) three(flags ...string) (n1, n2, n3 *member) {
	r.t.Helper()
	n1 = r.start("n1", flags...)
	n2, n3 = r.launch("n2", flags...), r.launch("n3", flags...)
	r.ready(n2)
	r.ready(n3)
	r.agree()
	return n1, n2, n3
}

// kill ends a node as a power failure does, and returns when the others know that their connections to it are gone: what is sent over one before
// that has an outcome that nobody knows. Gossip takes longer.
func (r *realm) kill(m *member) {
	r.t.Helper()
	m.signal(syscall.SIGKILL)
	<-m.exited
	delete(r.up, m.ID)
	for id, other := range r.up {
		r.until(id+" has no connection to "+m.ID, func() (bool, any) {
			list, err := other.http.Members(r.all.Context())
			if err != nil {
				return false, err
			}
			return !slices.ContainsFunc(list.Members, func(o gateway.MemberInfo) bool { return o.ID == m.ID && o.Linked }), list
		})
	}
}

// stop ends a node as an operator does. It has to succeed, and the others have to see it as what it is.
func (r *realm) stop(m *member) {
	r.t.Helper()
	delete(r.up, m.ID)
	m.signal(syscall.SIGTERM)
	if code := m.exit(); code != 0 {
		r.t.Errorf("%s leaves with exit code %d:\n%s", m.ID, code, m.log.String())
	}
	for id, other := range r.up {
		state := ""
		r.until(id+" sees that "+m.ID+" has left", func() (bool, any) {
			state = other.state(m.ID)
			return state != gateway.MemberAlive && state != gateway.MemberLeaving, state
		})
		if state != gateway.MemberLeft {
			r.t.Errorf("%s lists %s, which left, as %s", id, m.ID, state)
		}
	}
}

func (m *member) signal(s syscall.Signal) {
	m.r.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.r.t.Fatal(err)
	}
}

// exit waits for the end of the process and returns its code.
func (m *member) exit() int {
	m.r.t.Helper()
	select {
	case <-m.exited:
	case <-time.After(hangs):
		m.r.t.Fatalf("%s does not end:\n%s", m.ID, m.log.String())
	}
	return m.cmd.ProcessState.ExitCode()
}

// refused runs a node that must end by itself, and returns its exit code and the last line that it wrote, the error.
func (r *realm) refused(id string, flags ...string) (code int, last string) {
	r.t.Helper()
	m := r.launch(id, append([]string{"--output", "text"}, flags...)...)
	code = m.exit()
	lines := strings.Split(strings.TrimSpace(m.log.String()), "\n")
	return code, lines[len(lines)-1]
}

// until waits for what the nodes bring about in their own time; state is told if they do not.
func (r *realm) until(what string, ok func() (done bool, state any)) {
	r.t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		done, state := ok()
		if done {
			return
		}
		if time.Since(began) > hangs {
			r.t.Fatalf("%s: not within %v; at last %v", what, hangs, state)
		}
	}
}

// says waits for a line of a node's log that has all of the parts, and returns it.
func (m *member) says(parts ...string) string {
	m.r.t.Helper()
	limit := time.After(hangs)
	for {
		text, more := m.log.now()
		if lines := grep(text, parts...); len(lines) > 0 {
			return lines[0]
		}
		select {
		case <-more:
		case <-m.exited: // and all that it said is here
			if lines := grep(m.log.String(), parts...); len(lines) > 0 {
				return lines[0]
			}
			m.r.t.Fatalf("%s has ended and not said %q:\n%s", m.ID, parts, text)
		case <-limit:
			m.r.t.Fatalf("%s does not say %q:\n%s", m.ID, parts, text)
		}
	}
}

// grep returns the lines that have all of the parts.
func grep(text string, parts ...string) (lines []string) {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			lines = append(lines, line)
		}
	}
	return lines
}
