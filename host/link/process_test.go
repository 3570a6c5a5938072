//go:build unix

package link

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host/link/ca"
)

// TestMain is also the other process of tests and benchmarks that need one.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := child(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const childRole, childDir = "WASILO_TEST_ROLE", "WASILO_TEST_CA"

// process is another process: node b of a link, or the echo of a floor.
type process struct {
	*exec.Cmd
	addr string
	in   io.WriteCloser
	out  *bufio.Reader
}

func startProcess(t testing.TB, role, dir string) *process {
	t.Helper()
	cmd := exec.Command(must(os.Executable()))
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	p := &process{Cmd: cmd, in: must(cmd.StdinPipe()), out: bufio.NewReader(must(cmd.StdoutPipe()))}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	p.addr = strings.TrimSpace(must(p.out.ReadString('\n')))
	return p
}

// cpu asks the process how much it has used.
func (p *process) cpu(t testing.TB) time.Duration {
	t.Helper()
	if _, err := io.WriteString(p.in, "cpu\n"); err != nil {
		t.Fatal(err)
	}
	return time.Duration(must(strconv.ParseInt(strings.TrimSpace(must(p.out.ReadString('\n'))), 10, 64)))
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// child is the other process: it prints its address, answers questions for its CPU time, and ends with its input.
func child(role string) error {
	start := func() (func(), string, error) { return otherNode(os.Getenv(childDir)) }
	if role == "floor" {
		start = otherFloor
	}
	stop, addr, err := start()
	if err != nil {
		return err
	}
	fmt.Println(addr)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(cpuTime().Nanoseconds())
	}
	stop()
	return nil
}

func otherNode(dir string) (stop func(), addr string, err error) {
	authority, err := ca.Load(dir, ca.Options{})
	if err != nil {
		return nil, "", err
	}
	creds, err := authority.Credentials(ca.ID{Cluster: "test", Node: "b"})
	if err != nil {
		return nil, "", err
	}
	ln, err := Listen(context.Background(), "127.0.0.1:0", creds)
	if err != nil {
		return nil, "", err
	}
	l, err := New(Config{Self: cluster.Node{ID: "b", Authority: ln.Addr().String()}, Credentials: creds, Handler: handlerFunc(echo),
		Keepalive: patience, DialTimeout: patience})
	if err != nil {
		return nil, "", err
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve(ln) }()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.Shutdown(ctx)
		<-served
	}, ln.Addr().String(), nil
}

// TestStoppedProcess: a peer that the system has stopped is found although its kernel still takes what is sent to it. The test looks in
// the janitor's place, whose first look is far away: no peer is given up that only waits for its turn.
func TestStoppedProcess(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir() + "/ca"
	w.authority = must(ca.Init(dir, ca.Options{}))
	b := startProcess(t, "link", dir)
	a := w.node("a", func(c *Config) { c.Keepalive = time.Hour })
	target := must(a.Target(cluster.Node{ID: "b", Authority: b.addr}))
	if _, err := target.Deliver(t.Context(), message("counter/a", nil)); err != nil {
		t.Fatal(err)
	}
	signal := func(s os.Signal) {
		t.Helper()
		if err := b.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = b.Process.Signal(syscall.SIGCONT) }) // or it could not be waited for
	signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	for { // until the last of its threads has stopped
		_, err := syscall.Wait4(b.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == nil && status.Stopped() {
			break
		} else if err != syscall.EINTR {
			t.Fatal(err, status)
		}
	}
	wire := a.wires(false)[0]
	before := wire.sock.sent.Load()
	told := make(chan error, 1)
	if err := target.Post(message("counter/a", nil), func(_ []byte, err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	for wire.sock.sent.Load() == before {
		runtime.Gosched()
	}
	looks := 0
	for ended := false; !ended; looks++ {
		wire.look(time.Now())
		select {
		case <-wire.done:
			ended = true
		default:
		}
	}
	if looks > lostTicks+1 { // at the first there may be something that came before it was stopped
		t.Errorf("found after %d looks", looks)
	}
	if err := <-told; abi.CodeOf(err) != abi.ErrOutcomeUnknown {
		t.Error(err)
	}
	if i := a.expect(t, Silent); i.Node != "b" || i.Blame {
		t.Errorf("%+v", i)
	}
	signal(syscall.SIGCONT)
	for {
		_, err := target.Deliver(t.Context(), message("counter/a", nil))
		if err == nil {
			return
		}
		if code := abi.CodeOf(err); code != abi.ErrUnreachable && code != abi.ErrOutcomeUnknown {
			t.Fatal(err)
		}
	}
}
