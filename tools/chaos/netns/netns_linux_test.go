package netns

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Enter()
	goleak.VerifyTestMain(m)
}

// network makes one, or skips, or fails where WASILO_REQUIRE lists netns.
func network(t *testing.T, n int) *Network {
	t.Helper()
	w, err := New(n)
	if missing := new(MissingError); errors.As(err, &missing) && !slices.Contains(strings.Split(os.Getenv("WASILO_REQUIRE"), ","), "netns") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// arrives reports whether a datagram from one host reaches another: it sends until one does, for as long as the answer is not expected.
func arrives(t *testing.T, w *Network, from, to int, expected bool) bool {
	t.Helper()
	var in net.PacketConn
	err := w.Hosts[to].Do(func() (err error) {
		in, err = net.ListenPacket("udp", Addr(to)+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := w.Hosts[from].Dial(t.Context(), "udp", in.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	tries := 3
	if expected {
		tries = 600 // a minute: it hangs
	}
	for range tries {
		if _, err := out.Write([]byte("x")); err != nil {
			t.Fatalf("what the network loses is an error to whoever sends it: %v", err)
		}
		if err := in.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err = in.ReadFrom(make([]byte, 8)); err == nil {
			return true
		}
	}
	return false
}

func TestCuts(t *testing.T) {
	w := network(t, 3)
	check := func(drops ...Drop) {
		t.Helper()
		if err := w.Set(drops); err != nil {
			t.Fatal(err)
		}
		for from := range 3 {
			for to := range 3 {
				if from == to {
					continue
				}
				want := !slices.Contains(drops, Drop{from, to})
				if got := arrives(t, w, from, to, want); got != want {
					t.Errorf("with %v: from %d to %d: %v", drops, from, to, got)
				}
			}
		}
	}
	check()
	check(Drop{0, 1})
	check(Between([]int{0}, []int{1, 2})...)
	check()
}

func TestProcessesEndWithTheirHost(t *testing.T) {
	w, other := network(t, 2), network(t, 2) // beside each other
	_ = other
	cmd := exec.Command("sleep", "1000")
	if err := w.Hosts[1].Start(cmd); err != nil {
		t.Fatal(err)
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net")
	if err != nil || own == theirs {
		t.Errorf("the process is in namespace %q, this one in %q: %v", theirs, own, err)
	}
	h := w.Hosts[1]
	w.Hosts = w.Hosts[:1]
	close(h.work)
	<-h.ended
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended with %v", err)
	}
}

func TestRules(t *testing.T) {
	if got, want := iptablesRules([]int{0, 4}), "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.77.0.1 -j DROP\n-A INPUT -s 10.77.0.5 -j DROP\nCOMMIT\n"; got != want {
		t.Errorf("%s", got)
	}
	if got := nftRules([]int{2}); strings.Count(got, "drop") != 1 || !strings.Contains(got, "ip saddr 10.77.0.3 drop") {
		t.Errorf("%s", got)
	}
	if _, err := New(1); err == nil {
		t.Error("a network of one")
	}
	// The iptables of this machine takes the rules too, if there is one.
	w := network(t, 2)
	if _, err := find("iptables-restore"); err == nil {
		if err := w.Hosts[0].run(iptablesRules([]int{1}), "iptables-restore"); err != nil {
			t.Error(err)
		}
		if arrives(t, w, 1, 0, false) || !arrives(t, w, 0, 1, true) {
			t.Error("iptables drops something else")
		}
	}
}
