package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

func TestMain(m *testing.M) {
	// Scripts run this binary hundreds of times; with the race detector each would stay for a second at its end.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(m, map[string]func(){"wasilo": main})
}

// TestCommands runs testdata/script, each against a node that answers from a table.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			s := httptest.NewServer(gateway.New(gateway.Config{Node: &fakeNode{}, Operator: &fakeOperator{}}))
			env.Defer(s.Close)
			env.Setenv("WASILO_NODE", s.URL)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// TestNodes runs testdata/node: real nodes with real modules.
func TestNodes(t *testing.T) {
	wasm, err := filepath.Abs("../../../testdata/wasm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(wasm, "echo.wasm")); err != nil {
		t.Fatalf("the prebuilt modules are missing: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/node", RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("WASM", wasm)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config")) // of the development authority
			env.Setenv("WASILO_LINK", "127.0.0.1:0")
			env.Setenv("WASILO_GOSSIP", "127.0.0.1:0")
			env.Values["nodes"] = processes{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "start": start, "halt": halt, "crash": crash, "force": force, "eventually": eventually,
			"says": says, "ended": ended, "votes": votes, "spinning": spinning, "unreachable": unreachable, "ports": ports, "damage": damage,
		},
	})
}

// exits CODE PROGRAM ARGS… runs a program that must end with just that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitOf(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

// patience is how long something that happens in its own time may take, before it counts as never happening.
const patience = 3 * time.Minute

// pause is what lies between two looks at it: each takes a process.
const pause = 20 * time.Millisecond

// until CODE PROGRAM ARGS… runs a program again and again until it ends with that code.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		got := exitOf(ts, args[1:])
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("exit code %d after %v, not %d", got, patience, want)
		}
	}
}

// votes PATTERN ARGS… runs `wasilo voters ARGS…` again and again until it succeeds, and says what matches the pattern. An attempt whose
// outcome is not known, for the leader changed meanwhile, may have been the one: then it is refused, for there is nothing left to change.
func votes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: votes PATTERN add|rm NODE…")
	}
	pattern, done := regexp.MustCompile("(?m)"+args[0]), map[string]string{"add": "is a voter already", "rm": "is no voter"}[args[1]]
	unknown := false
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		code := exitOf(ts, append([]string{"wasilo", "voters"}, args[1:]...))
		stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
		switch {
		case code == 0 && !pattern.MatchString(stdout):
			ts.Fatalf("it says %q", stdout)
		case code == 0, unknown && done != "" && strings.Contains(stderr, done):
			return
		case time.Now().After(deadline):
			ts.Fatalf("exit code %d after %v", code, patience)
		}
		unknown = unknown || strings.Contains(stderr, abi.ErrOutcomeUnknown.String())
	}
}

// exitOf runs a program and returns its exit code.
func exitOf(ts *testscript.TestScript, args []string) int {
	err := ts.Exec(args[0], args[1:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// process is what a script started and has not ended.
type process struct {
	cmd    *exec.Cmd
	stderr logBuffer
	exited chan error
}

// processes are those of a script, by the name that it gives them.
type processes map[string]*process

// running finds the process that @NAME, the first argument, names; without one it is "node".
func running(ts *testscript.TestScript, args []string) (name string, p *process, rest []string) {
	name, rest = processName(args)
	p = ts.Value("nodes").(processes)[name]
	if p == nil {
		ts.Fatalf("%s does not run", name)
	}
	return name, p, rest
}

func processName(args []string) (name string, rest []string) {
	if len(args) > 0 && strings.HasPrefix(args[0], "@") {
		return args[0][1:], args[1:]
	}
	return "node", args
}

// logBuffer keeps what a process writes, and wakes who waits for a part of it.
type logBuffer struct {
	mu     sync.Mutex
	text   strings.Builder
	change chan struct{} // closed at the next write
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.change != nil {
		close(b.change)
		b.change = nil
	}
	return b.text.Write(p)
}

// now returns what was written so far, and a channel that is closed when there is more.
func (b *logBuffer) now() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.change == nil {
		b.change = make(chan struct{})
	}
	return b.text.String(), b.change
}

func (b *logBuffer) String() string { s, _ := b.now(); return s }

// start [@NAME] ARGS… runs `wasilo ARGS… -o json` until it says that it is ready, and sets WASILO_NODE and, of each node
// that it tells of, ID_URL, ID_LINK, ID_GOSSIP and ID_PID, ID being the node's; and NODE_ADDR, NODE_ID and PID of the last process.
func start(ts *testscript.TestScript, neg bool, args []string) {
	name, args := processName(args)
	all := ts.Value("nodes").(processes)
	if neg || all[name] != nil {
		ts.Fatalf("usage: start [@NAME] ARGS…, one process of a name at a time")
	}
	p := &process{exited: make(chan error, 1)}
	p.cmd = exec.Command("wasilo", append(args, "-o", "json")...)
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = environment(ts)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	all[name] = p
	ts.Defer(func() {
		if all[name] == p {
			_ = p.cmd.Process.Kill()
			<-p.exited
			ts.Logf("[stderr of %s]\n%s", name, p.stderr.String())
		}
	})
	line, readErr := bufio.NewReader(out).ReadBytes('\n')
	go func() { p.exited <- p.cmd.Wait() }()
	var ready struct {
		announcement
		Nodes []announcement
	}
	if readErr == nil {
		readErr = json.Unmarshal(line, &ready)
	}
	nodes := ready.Nodes
	if len(nodes) == 0 {
		ready.PID = p.cmd.Process.Pid
		nodes = append(nodes, ready.announcement)
	}
	if readErr != nil || nodes[0].URL == "" {
		ts.Fatalf("%s did not say that it is ready, but %q: %v", name, line, readErr)
	}
	for _, n := range nodes {
		ts.Setenv(n.ID+"_URL", n.URL)
		ts.Setenv(n.ID+"_LINK", n.Link)
		ts.Setenv(n.ID+"_GOSSIP", n.Gossip)
		ts.Setenv(n.ID+"_PID", strconv.Itoa(n.PID))
	}
	ts.Setenv("WASILO_NODE", nodes[0].URL)
	ts.Setenv("NODE_ADDR", strings.TrimPrefix(nodes[0].URL, "http://"))
	ts.Setenv("NODE_ID", nodes[0].ID)
	ts.Setenv("PID", strconv.Itoa(p.cmd.Process.Pid))
}

// halt [@NAME] ends a process as an operator would; it must leave with 0. What it wrote to stderr is then in NAME.log.
func halt(ts *testscript.TestScript, neg bool, args []string) {
	name, p, rest := running(ts, args)
	if neg || len(rest) > 0 {
		ts.Fatalf("usage: halt [@NAME], after start")
	}
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	if err := p.end(ts, name); err != nil {
		ts.Fatalf("%s: %v\n%s", name, err, p.stderr.String())
	}
}

// crash [@NAME] ends a process as the system does when memory runs out.
func crash(ts *testscript.TestScript, neg bool, args []string) {
	name, p, rest := running(ts, args)
	if neg || len(rest) > 0 {
		ts.Fatalf("usage: crash [@NAME], after start")
	}
	ts.Check(p.cmd.Process.Kill())
	_ = p.end(ts, name) // it was killed
}

// ended CODE [@NAME] waits for a process to end by itself with that code.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ended CODE [@NAME]")
	}
	name, p, _ := running(ts, args[1:])
	if err := p.end(ts, name); strconv.Itoa(p.exitCode(err)) != args[0] {
		ts.Fatalf("%s: %v, not exit code %s\n%s", name, err, args[0], p.stderr.String())
	}
}

// end waits for the process and keeps its log in NAME.log.
func (p *process) end(ts *testscript.TestScript, name string) error {
	err := <-p.exited
	delete(ts.Value("nodes").(processes), name)
	ts.Check(os.WriteFile(ts.MkAbs(name+".log"), []byte(p.stderr.String()), 0o600))
	return err
}

// force signals, and again when the node has taken notice of the first, until the node holds it for a second one. It must
// end at once, not with 0.
func force(ts *testscript.TestScript, neg bool, args []string) {
	name, p, rest := running(ts, args)
	if neg || len(rest) > 0 {
		ts.Fatalf("usage: force [@NAME], after start")
	}
	ts.Check(p.cmd.Process.Signal(syscall.SIGINT))
	for {
		text, more := p.stderr.now()
		if strings.Contains(text, "another signal ends ") {
			break
		}
		select {
		case <-more:
		case err := <-p.exited:
			p.exited <- err
			_ = p.end(ts, name)
			ts.Fatalf("it ended by the first signal: %v\n%s", err, text)
		}
	}
	again := time.NewTicker(sameSignal)
	defer again.Stop()
	for {
		if err := p.cmd.Process.Signal(syscall.SIGINT); !errors.Is(err, os.ErrProcessDone) {
			ts.Check(err)
		}
		select {
		case err := <-p.exited:
			p.exited <- err
			if err := p.end(ts, name); p.exitCode(err) != abi.ExitActor {
				ts.Fatalf("after two signals: %v", err)
			}
			return
		case <-again.C:
		}
	}
}

func (*process) exitCode(err error) int {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// eventually [-count=N PATTERN]… PATTERN ARGS… repeats `wasilo ARGS…` until it succeeds and what it says matches the patterns, each
// counted one just as often, for what a node does in its own time. With ! it must not match.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	type counted struct {
		pattern *regexp.Regexp
		n       int
	}
	var all []counted
	for len(args) > 1 {
		text, isCount := strings.CutPrefix(args[0], "-count=")
		if !isCount {
			break
		}
		n, err := strconv.Atoi(text)
		ts.Check(err)
		all, args = append(all, counted{regexp.MustCompile("(?m)" + args[1]), n}), args[2:]
	}
	if len(args) < 2 {
		ts.Fatalf("usage: eventually [-count=N PATTERN]… PATTERN ARGS…")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		cmd := exec.Command("wasilo", args[1:]...)
		cmd.Env = environment(ts)
		out, err := cmd.CombinedOutput()
		if err == nil && pattern.Match(out) != neg &&
			!slices.ContainsFunc(all, func(c counted) bool { return len(c.pattern.FindAll(out, -1)) != c.n }) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v; at last %v\n%s", patience, err, out)
		}
	}
}

// says [@NAME] PATTERN waits until a process that runs has written a line to stderr that matches.
func says(ts *testscript.TestScript, neg bool, args []string) {
	name, p, rest := running(ts, args)
	if neg || len(rest) != 1 {
		ts.Fatalf("usage: says [@NAME] PATTERN, after start")
	}
	pattern := regexp.MustCompile("(?m)" + rest[0])
	for limit := time.After(patience); ; {
		text, more := p.stderr.now()
		if pattern.MatchString(text) {
			return
		}
		select {
		case <-more:
		case <-limit:
			ts.Fatalf("%s does not say it within %v:\n%s", name, patience, text)
		}
	}
}

// unreachable URL… waits until nothing listens there any more.
func unreachable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: unreachable URL…")
	}
	deadline := time.Now().Add(patience)
	for _, url := range args {
		for ; ; time.Sleep(pause) {
			conn, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), patience)
			if errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			if err == nil {
				conn.Close()
			}
			if time.Now().After(deadline) {
				ts.Fatalf("%s listens after %v", url, patience)
			}
		}
	}
}

// spinning URL… waits until an actor runs a turn on one of the nodes.
func spinning(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: spinning URL…")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		for _, url := range args {
			cmd := exec.Command("wasilo", "ps", "--node", url)
			cmd.Env = environment(ts)
			if out, err := cmd.Output(); err == nil && strings.Contains(string(out), " running ") {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no turn runs after %v", patience)
		}
	}
}

// ports NAME… sets variables to addresses whose ports are free, and not given to who asks for any.
func ports(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ports NAME…")
	}
	var free freePorts
	defer free.release()
	for _, name := range args {
		addr, err := free.take("127.0.0.1:0")
		ts.Check(err)
		ts.Setenv(name, addr)
	}
}

// damage GLOB… turns bits of files over, in the first quarter of each.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: damage GLOB…")
	}
	for _, glob := range args {
		files, err := filepath.Glob(ts.MkAbs(glob))
		ts.Check(err)
		if len(files) == 0 {
			ts.Fatalf("there is no %s", glob)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			ts.Check(err)
			for i := range b[:min(len(b)/4, 4096)] {
				b[i] ^= 0x55
			}
			ts.Check(os.WriteFile(file, b, 0o600))
		}
	}
}

// environment is that of the script's own commands, as far as wasilo looks at it.
func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "WORK", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "WASILO_NODE", "GORACE"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	for _, s := range nodeSettings() {
		env = append(env, s.variable()+"="+ts.Getenv(s.variable()))
	}
	return env
}

// fakeNode serves the kinds counter (add, get), echo (any method answers its parameters), and fail, whose methods are
// codes of the error table.
type fakeNode struct {
	mu    sync.Mutex
	count map[string]int
}

func (n *fakeNode) Kinds() []gateway.KindInfo {
	record := func(fields ...abi.Field) *abi.Schema { return &abi.Schema{Type: abi.TypeRecord, Fields: fields} }
	whole := &abi.Schema{Type: abi.TypeInt}
	return []gateway.KindInfo{
		gateway.DescribeKind(&abi.KindDescription{Name: "counter", Doc: "counts", Events: []abi.EventTag{abi.EventCall}, Methods: []abi.Method{
			{Name: "add", Params: record(abi.Field{Name: "by", Schema: whole}), Result: record(abi.Field{Name: "value", Schema: whole})},
			{Name: "get", ReadOnly: true, Params: record()},
		}}, "actors/counter.wasm", "c0ffee"),
		gateway.DescribeKind(&abi.KindDescription{Name: "echo", Events: []abi.EventTag{abi.EventCall}}, "", "native"),
	}
}

func (n *fakeNode) Files() []gateway.FileInfo {
	return []gateway.FileInfo{
		{Path: "actors/bad.wasm", State: gateway.FileFailed, Error: "no \x1b[31mwasm\nat all"},
		{Path: "actors/counter.wasm", State: gateway.FileLoaded, Kinds: []string{"counter"}, LoadingSince: time.Now().Add(-time.Minute)},
		{Path: "actors/echo.wasm", State: gateway.FileLoaded, Kinds: []string{"echo"}},
		{Path: "actors/new.wasm", State: gateway.FileLoading, LoadingSince: time.Now().Add(-90 * time.Second)},
	}
}

func (n *fakeNode) Method(_ context.Context, kind, method string, _ time.Time) (*abi.Method, error) {
	if kind != "counter" && kind != "echo" && kind != "fail" {
		return nil, abi.NewError(abi.ErrUnknownKind, "no kind "+kind)
	}
	return nil, nil
}

func (n *fakeNode) Send(ctx context.Context, env *abi.Envelope) ([]byte, error) {
	switch env.Target.Kind() {
	case "fail":
		if env.Method == "hang" {
			wait, cancel := context.WithDeadline(ctx, env.Deadline)
			defer cancel()
			<-wait.Done()
			return nil, wait.Err()
		}
		code, ok := abi.CodeByName(env.Method)
		if !ok {
			return nil, abi.NewActorError(env.Method, "as \x1b[1masked\nfor")
		}
		return nil, abi.NewError(code, "as asked for")
	case "counter":
		if env.Flags&abi.OnlyIfActive != 0 {
			return nil, abi.NewError(abi.ErrNotActive, env.Target.Key()+" is not active")
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.count == nil {
			n.count = make(map[string]int)
		}
		if env.Method == "add" {
			n.count[env.Target.ID()]++
		}
		return abi.AppendUint(abi.AppendText(abi.AppendMap(nil, 1), "value"), uint64(n.count[env.Target.ID()])), nil
	}
	if env.Method == "headers" {
		b := abi.AppendMap(nil, 2)
		b = abi.AppendText(abi.AppendText(b, "key"), env.IdempotencyKey)
		b = abi.AppendText(abi.AppendText(b, "target"), env.Target.ID())
		return b, nil
	}
	return env.Payload, nil
}

func (n *fakeNode) Ready() gateway.Readiness { return gateway.Readiness{Ready: true} }

// fakeOperator is that of a cluster of two voters of three, led by n1; n2 does not answer.
type fakeOperator struct {
	mu    sync.Mutex
	asked int // how far the drain is
	drain gateway.DrainInfo
}

func (*fakeOperator) Voters(context.Context) (gateway.VoterList, error) {
	contact := int64(12)
	return gateway.VoterList{Leader: "n1", Term: 7, Generation: 2, Index: 40, Voters: []gateway.VoterInfo{
		{ID: "n1", Voter: "n1#0000000000000001", Link: "127.0.0.1:7701", Leads: true, State: gateway.VoterVoting, Last: 44, Applied: 44},
		{ID: "n2", Voter: "n2#0000000000000002", Link: "127.0.0.1:7711", State: gateway.VoterUnknown, Problem: "no \x1b[31manswer\nat all"},
		{ID: "n3", Voter: "n3#0000000000000003", Link: "127.0.0.1:7721", State: gateway.VoterVoting, ContactMS: &contact, Last: 42, Applied: 41},
		{ID: "n4", Voter: "n4#0000000000000004", Link: "127.0.0.1:7731", State: gateway.VoterNone},
	}}, nil
}

func (*fakeOperator) AddVoter(_ context.Context, node string, even bool) (gateway.VoterChange, error) {
	if !even {
		return gateway.VoterChange{}, abi.NewError(abi.ErrInvalidArgument, "that would be even; --even")
	}
	return gateway.VoterChange{Voter: node + "#0000000000000009", Count: 4}, nil
}

func (*fakeOperator) RemoveVoter(_ context.Context, which string, even bool) (gateway.VoterChange, error) {
	if !even {
		return gateway.VoterChange{}, abi.NewError(abi.ErrNotReady, "another change is under way")
	}
	return gateway.VoterChange{Voter: which, Count: 2}, nil
}

func (o *fakeOperator) Drain(undo bool) (gateway.DrainInfo, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain, o.asked = gateway.DrainInfo{Draining: !undo, Partitions: 300, Moving: 2, Actors: 5}, 0
	return o.drain, nil
}

func (o *fakeOperator) Drained() gateway.DrainInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked++; o.asked == 2 {
		o.drain = gateway.DrainInfo{Draining: true, Done: true, Partitions: 9, Stays: "9 partitions stay"}
	}
	return o.drain
}

func (*fakeOperator) Block(_ context.Context, node string, undo bool) (gateway.BlockInfo, error) {
	info := gateway.BlockInfo{Node: node, Blocked: !undo, Known: node == "n2", Told: []string{"n1"}}
	if !undo {
		info.Missed = []gateway.Unreached{{Node: "n3", Error: "no \x1b[31manswer"}}
	}
	return info, nil
}

// Members lists two nodes: this one, and one that failed.
func (n *fakeNode) Members() []gateway.MemberInfo {
	return []gateway.MemberInfo{
		{ID: "n1", Self: true, State: gateway.MemberAlive, Mode: "member", Boot: "01", Link: "127.0.0.1:7701", Gossip: "127.0.0.1:7946",
			HTTP: "127.0.0.1:7700", Linked: true, Kinds: []string{"counter", "echo"}},
		{ID: "n2", State: gateway.MemberFailed, Mode: "client", Boot: "02", Link: "127.0.0.1:7711", Gossip: "127.0.0.1:7956",
			Problem: "no \x1b[31manswer\nat all"},
	}
}

// Actors lists 250 actors of the kind counter.
func (n *fakeNode) Actors(q gateway.ActorQuery) (page gateway.ActorPage) {
	if q.Kind != "" && q.Kind != "counter" {
		return page
	}
	for i := range 250 {
		id := fmt.Sprintf("actor-%03d", i)
		if !q.After.IsZero() && id <= q.After.ID() {
			continue
		}
		if len(page.Actors) == q.Limit {
			page.More = true
			break
		}
		page.Actors = append(page.Actors, gateway.ActorInfo{Kind: "counter", ID: id, State: gateway.ActorIdle,
			Since: time.Now().Add(-90 * time.Second)})
	}
	return page
}
