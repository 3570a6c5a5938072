package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
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
		{"Again", testClusterAgain, true},
		{"Frozen", testClusterFrozen, true},
		{"Merged", testClusterMerged, true},
		{"Strangers", testClusterStrangers, true},
		{"Refused", testClusterRefused, true},
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
	seed string // gossip address of the first node
	up   map[string]*member
}

func newRealm(t *testing.T, home string) *realm {
	return &realm{t: t, all: t, home: home, dir: t.TempDir(), up: make(map[string]*member)}
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
	data := filepath.Join(r.dir, "data", id)
	if err := os.MkdirAll(data, 0o700); err != nil {
		r.t.Fatal(err)
	}
	compiled := filepath.Join(r.home, "compiled")
	if err := os.MkdirAll(compiled, 0o700); err != nil {
		r.t.Fatal(err)
	}
	_ = os.Symlink(compiled, filepath.Join(data, "cache")) // it is there when the node ran before
	args := []string{"serve", "-o", "json", "--id", id, "--data", data, "--profile", pace, "--actors", r.modules("examples.wasm"),
		"--http", "127.0.0.1:0", "--link", "127.0.0.1:0", "--gossip", "127.0.0.1:0"}
	if r.seed != "" {
		args = append(args, "--join", r.seed)
	}
	m := &member{r: r, cmd: r.command(append(args, flags...)...), client: slices.Contains(flags, "client"),
		said: make(chan announcement, 1), exited: make(chan struct{})}
	m.cmd.Stdout, m.cmd.Stderr = &announced{to: m.said}, &m.log
	m.cmd.WaitDelay = time.Second
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
		"XDG_CACHE_HOME=" + filepath.Join(r.home, "cache"), "GORACE=" + os.Getenv("GORACE"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}
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

// kill ends a node as a power failure does.
func (r *realm) kill(m *member) {
	r.t.Helper()
	m.signal(syscall.SIGKILL)
	<-m.exited
	delete(r.up, m.ID)
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
		case <-m.exited:
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

// agree waits until all nodes that are up see each other and no one else, are connected, and place each kind alike.
func (r *realm) agree() {
	r.t.Helper()
	ids := slices.Sorted(maps.Keys(r.up))
	for _, id := range ids {
		r.until(id+" agrees that there are "+strings.Join(ids, ", "), func() (bool, any) {
			if alive, problems := r.up[id].sees(); !slices.Equal(alive, ids) || len(problems) > 0 {
				return false, []any{alive, problems}
			}
			mine, first := r.up[id].hosts(), r.up[ids[0]].hosts()
			return mine == first, []any{mine, first}
		})
	}
}

// sees returns who is there according to m, and what is wrong with them.
func (m *member) sees() (alive, problems []string) {
	list, err := m.http.Members(m.r.all.Context())
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, o := range list.Members {
		if o.State == gateway.MemberLeft || o.State == gateway.MemberFailed {
			continue
		}
		alive = append(alive, o.ID)
		if !o.Self && (o.State != gateway.MemberAlive || o.Problem != "" || !o.Linked && (o.Mode == "member" || !m.client)) {
			problems = append(problems, fmt.Sprintf("%+v", o))
		}
	}
	return alive, problems
}

// state returns what m knows of a node's latest run.
func (m *member) state(id string) (state string) {
	list, err := m.http.Members(m.r.all.Context())
	if err != nil {
		return err.Error()
	}
	boot := ""
	for _, o := range list.Members {
		if o.ID == id && o.Boot > boot {
			boot, state = o.Boot, o.State
		}
	}
	return state
}

// hosts returns which kinds are where according to m.
func (m *member) hosts() string {
	list, err := m.http.Kinds(m.r.all.Context())
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, k := range list.Kinds {
		fmt.Fprintf(&b, "%s on %v; ", k.Name, k.Nodes)
	}
	return b.String()
}

// call calls an actor by JSON, within the time that is a caller's default.
func (m *member) call(actor, method, params string) (string, error) {
	return m.callFor(actor, method, params, abi.DefaultRequest)
}

func (m *member) callFor(actor, method, params string, timeout time.Duration) (string, error) {
	target, err := abi.ParseIdentity(actor)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(m.r.all.Context(), 2*hangs) // the client's own limit is the sooner one
	defer cancel()
	out, err := m.http.CallJSON(ctx, target, method, []byte(params), client.CallOptions{Timeout: timeout})
	return strings.TrimSpace(string(out)), err
}

func (m *member) must(actor, method, params string) string {
	m.r.t.Helper()
	out, err := m.call(actor, method, params)
	if err != nil {
		m.r.t.Fatalf("%s %s through %s: %v", actor, method, m.ID, err)
	}
	return out
}

// add counts one up on a counter; its error is what the call came to.
func (m *member) add(actor string) (value int, err error) {
	out, err := m.call(actor, "add", `{"by":1}`)
	if err != nil {
		return 0, err
	}
	var reply struct{ Value *int }
	if err := json.Unmarshal([]byte(out), &reply); err != nil || reply.Value == nil {
		return 0, fmt.Errorf("%s answered %s", actor, out)
	}
	return *reply.Value, nil
}

// adds expects a counter to count to want.
func (m *member) adds(actor string, want int) {
	m.r.t.Helper()
	if got, err := m.add(actor); err != nil || got != want {
		m.r.t.Errorf("%s through %s counts to %d, %v, want %d", actor, m.ID, got, err, want)
	}
}

// hosted returns the actors of a kind that live on m.
func (m *member) hosted(kind string) (actors []string) {
	m.r.t.Helper()
	for after := ""; ; {
		page, err := m.http.Actors(m.r.all.Context(), client.ActorsQuery{Kind: kind, After: after, Limit: gateway.MaxPage})
		if err != nil {
			m.r.t.Fatalf("the actors of %s: %v", m.ID, err)
		}
		for _, a := range page.Actors {
			actors = append(actors, a.Kind+"/"+a.ID)
		}
		if after = page.Next; after == "" {
			return actors
		}
	}
}

// homes returns where each actor of a kind lives; none lives twice.
func (r *realm) homes(kind string) map[string]string {
	r.t.Helper()
	homes := make(map[string]string)
	for id, m := range r.up {
		for _, actor := range m.hosted(kind) {
			if other := homes[actor]; other != "" {
				r.t.Errorf("%s lives on %s and on %s", actor, other, id)
			}
			homes[actor] = id
		}
	}
	return homes
}

// counters names the first n counters.
func counters(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("counter/c%d", i)
	}
	return names
}

// each does something with every name, several at a time.
func each(names []string, do func(i int, name string)) {
	const workers = 8
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(names); i += workers {
				do(i, names[i])
			}
		})
	}
	wg.Wait()
}
