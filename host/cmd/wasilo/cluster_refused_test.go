package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/link/ca"
)

// testClusterStrangers: nodes that cannot find each other, or are not meant to, serve by themselves and say what is the matter.
func testClusterStrangers(t *testing.T, home string) {
	r := newRealm(t, home)
	n1, n2 := r.start("n1"), r.start("n2")
	r.agree()
	n1.must("counter/a", "add", `{"by":1}`)

	r.run("NobodyAnswers", func(t *testing.T) {
		for _, c := range []struct{ id, seed, hint string }{
			{"refused", refusingAddr(t), "connection refused"},
			{"silent", silentAddr(t), ""},
		} {
			alone := r.start(c.id, "--join", c.seed) // and n1, which answers
			alone.says("cannot join the cluster through a seed", c.seed, c.hint)
			r.agree()
			r.stop(alone)
			r.agree()
		}
		lost := newRealm(t, home)
		lost.seed = refusingAddr(t)
		alone := lost.start("n1")
		alone.says("cannot join the cluster through a seed", lost.seed)
		alone.adds("counter/a", 1)
		lost.agree()
		lost.stop(alone)
	})

	r.run("AnotherCluster", func(t *testing.T) { // on the same machine, with the same development authority
		other := newRealm(t, home)
		other.seed = n1.Gossip
		n3 := other.start("n3")
		n3.says("cannot join the cluster through a seed", n1.Gossip)
		n1.says("gossip from another cluster was refused")
		n3.adds("counter/a", 1)
		other.agree()
		r.agree()
		n2.adds("counter/a", 2)
	})

	r.run("AnotherAuthority", func(t *testing.T) { // gossip lets it in, links do not
		flags := certified(t, r, filepath.Join(r.dir, "foreign"), "n4", r.name)
		n4 := r.start("n4", flags...)
		delete(r.up, "n4")
		for _, m := range []*member{n1, n2} {
			r.until(m.ID+" says what is wrong with n4", func() (bool, any) {
				list, err := m.http.Members(t.Context())
				if err != nil {
					return false, err
				}
				for _, o := range list.Members {
					if o.ID == "n4" {
						return strings.Contains(o.Problem, "certificate") && !o.Linked, o
					}
				}
				return false, list
			})
		}
		each(counters(60), func(i int, name string) { []*member{n1, n2}[i%2].adds(name, 1) })
		if hosted := n4.hosted("counter"); len(hosted) > 0 {
			t.Errorf("a node that proves nothing has %q", hosted)
		}
		n4.signal(9)
	})
}

// testClusterRefused: what is wrong in a command line or a machine is said in a line that tells what to do, and ends with the code
// that says whose fault it is.
func testClusterRefused(t *testing.T, home string) {
	r := newRealm(t, home)
	n1 := r.start("n1")
	here := filepath.Join(r.dir, "authority")
	mine := certified(t, r, here, "n2", "elsewhere")
	usage, failure := abi.ErrInvalidArgument.Info().Exit, abi.ExitActor
	for _, c := range []struct {
		name  string
		flags []string
		code  int
		says  []string
	}{
		{"EveryInterface", []string{"--link", "0.0.0.0:0"}, usage,
			[]string{"link 0.0.0.0:0 is not loopback", "wasilo ca init", "wasilo node cert", "--gossip-key"}},
		{"GossipOnEveryInterface", []string{"--gossip", "0.0.0.0:0"}, usage,
			[]string{"gossip 0.0.0.0:0 is not loopback", "wasilo ca init", "wasilo node cert", "--gossip-key"}},
		{"HTTPPort", []string{"--http", strings.TrimPrefix(n1.URL, "http://")}, failure,
			[]string{"cannot serve HTTP on " + strings.TrimPrefix(n1.URL, "http://"), "in use", "--http"}},
		{"LinkPort", []string{"--link", n1.Link}, failure, []string{n1.Link, "in use", "--link"}},
		{"GossipPort", []string{"--gossip", n1.Gossip}, failure, []string{"gossip cannot listen on " + n1.Gossip, "--gossip"}},
		{"AnotherClustersCertificate", mine, usage,
			[]string{`node "n2" of cluster "elsewhere"`, `node "n2" of cluster "` + r.name + `"`, "--cluster"}},
		{"HalfACertificate", mine[:2], usage, []string{"ca, cert and key go together"}},
		{"NoAuthority", []string{"--ca", "no.crt", "--cert", "no.crt", "--key", "no.key"}, usage, []string{"no.crt"}},
		{"Profile", []string{"--profile", "faster"}, usage, []string{"--profile", "fast, local, lan"}},
		{"Placement", []string{"--placement", "maglev"}, usage,
			[]string{"node n1 has the placement rendezvous and this node, n2, has maglev", "--placement"}},
		{"Weight", []string{"--weight", "3"}, usage, []string{"weight 3", "--placement weighted"}},
		{"Mode", []string{"--mode", "guest"}, usage, []string{"--mode", "member", "client"}},
		{"Join", []string{"--join", "here:there"}, usage, []string{"here:there"}},
		{"ID", []string{"--id", "N 2"}, usage, []string{"--id", "N 2"}},
		{"Advertise", []string{"--advertise", "here:7701"}, usage, []string{"advertise", "without a port"}},
	} {
		r.run(c.name, func(t *testing.T) {
			code, why := r.refused("n2", c.flags...)
			if code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, why)
			}
			for _, s := range c.says {
				if !strings.Contains(why, s) {
					t.Errorf("%q lacks %q", why, s)
				}
			}
			if strings.Contains(why, "\n") || !strings.HasPrefix(why, "wasilo: ") {
				t.Errorf("%q is not a line of the program's", why)
			}
		})
	}
	r.agree()
}

// testClusterContradiction: of voters whose lists contradict each other the one that sees it first ends, names both lists, and says what to do.
func testClusterContradiction(t *testing.T, home string) {
	r := newRealm(t, home)
	addrs := freeAddrs(t, 3)
	a, b, gossip := addrs[0], addrs[1], addrs[2]
	list := "n1=" + a + ",n2=" + b + ",n3=127.0.0.1:"
	n1 := r.launch("n1", "--output", "text", "--link", a, "--gossip", gossip, "--voters", list+"1")
	n2 := r.launch("n2", "--output", "text", "--link", b, "--join", gossip, "--voters", list+"2")
	first := n1
	select {
	case <-n1.exited:
	case <-n2.exited:
		first = n2
	case <-time.After(hangs):
		t.Fatal("neither of the two ends")
	}
	if code := first.cmd.ProcessState.ExitCode(); code != abi.ErrInvalidArgument.Info().Exit {
		t.Errorf("exit code %d", code)
	}
	first.says("wasilo: ", "lists contradict each other: node n", "n3=127.0.0.1:1", "n3=127.0.0.1:2", "Give all voters the same --voters")
}

// certified makes an authority in dir and has it certify a node; the flags say where.
func certified(t *testing.T, r *realm, dir, node, cluster string) (flags []string) {
	t.Helper()
	authority, err := ca.Init(dir, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authority.WriteNode(filepath.Join(dir, "nodes"), ca.ID{Cluster: cluster, Node: node}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--ca", filepath.Join(dir, ca.CertificateFile), "--cert", cert, "--key", key}
}

// freeAddrs are addresses for nodes whose ports have to be known before they run, or be had again after they ended.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	var free freePorts
	defer free.release()
	addrs := make([]string, n)
	for i := range addrs {
		var err error
		if addrs[i], err = free.take("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	return addrs
}

// refusingAddr is where nothing listens.
func refusingAddr(t *testing.T) string {
	t.Helper()
	return freeAddrs(t, 1)[0]
}

// silentAddr is where something listens that never says a word.
func silentAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
