package serfwatch

import (
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/wasilo/wasilo/cluster"
)

// stranger joins the gossip of a node by means of serf alone, under a name and with tags of its own.
func (w *world) stranger(name string, tags map[string]string, seed *node) *serf.Serf {
	w.t.Helper()
	list := memberlist.DefaultLocalConfig()
	list.Transport, list.Label, list.Logger = w.wire(), seed.cfg.Cluster, log.New(io.Discard, "", 0)
	conf := serf.DefaultConfig()
	conf.NodeName, conf.Tags, conf.MemberlistConfig, conf.Logger = name, tags, list, list.Logger
	s, err := serf.Create(conf)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ends = append(w.ends, s.Shutdown)
	if _, err := s.Join([]string{seed.port.addr}, true); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// garbage joins the gossip of a node by means of memberlist alone, with bytes for tags.
func (w *world) garbage(name string, meta []byte, seed *node) {
	w.t.Helper()
	c := memberlist.DefaultLocalConfig()
	c.Name, c.Transport, c.Label, c.Logger = name, w.wire(), seed.cfg.Cluster, log.New(io.Discard, "", 0)
	c.Delegate = noise(meta)
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = 2, 5, 4
	m, err := memberlist.Create(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ends = append(w.ends, m.Shutdown)
	if _, err := m.Join([]string{seed.port.addr}); err != nil {
		w.t.Fatal(err)
	}
}

// noise is a memberlist.Delegate whose every message is the same bytes.
type noise []byte

func (n noise) NodeMeta(int) []byte             { return n }
func (n noise) NotifyMsg([]byte)                {}
func (n noise) GetBroadcasts(int, int) [][]byte { return nil }
func (n noise) LocalState(bool) []byte          { return n }
func (n noise) MergeRemoteState([]byte, bool)   {}

func TestForgedTagsAreIgnored(t *testing.T) {
	good := func(c cluster.Node) (string, map[string]string) {
		s := said{cluster: "wasilo", node: c}
		return s.name(), s.tags()
	}
	honest := cluster.Node{ID: "n3", Authority: "10.0.0.3:7701", Boot: 7}
	for name, forge := range map[string]struct {
		change map[string]string
		reason string
	}{
		"another serf":       {map[string]string{"v": "", "role": "web"}, "no tags of this kind"},
		"a later protocol":   {map[string]string{"v": "2"}, "version 2"},
		"a foreign cluster":  {map[string]string{"cluster": "other"}, `cluster \"other\"`},
		"no cluster":         {map[string]string{"cluster": ""}, "names no cluster"},
		"an id of its own":   {map[string]string{"id": "n1"}, "is not called so"},
		"no id":              {map[string]string{"id": "../n3"}, "id is not that of a node"},
		"a boot of its own":  {map[string]string{"boot": "ffffffffffffffff"}, "is not called so"},
		"no boot":            {map[string]string{"boot": "0000000000000000"}, "no boot number"},
		"a mode of its own":  {map[string]string{"mode": "leader"}, "mode"},
		"a link nowhere":     {map[string]string{"link": "0.0.0.0:7701"}, "link cannot be reached"},
		"a link with a path": {map[string]string{"link": "10.0.0.3:7701/x"}, "link cannot be reached"},
		"no placement":       {map[string]string{"placement": "\x1b[2J"}, "placement is none"},
		"the default said":   {map[string]string{"placement": "rendezvous"}, "placement is none"},
		"another placement":  {map[string]string{"placement": "maglev"}, "node n3 has the placement maglev and this node, n"},
		"a weight alone":     {map[string]string{"weight": "7"}, "without being a member that places by weights"},
		"a weight of none":   {map[string]string{"placement": "weighted", "weight": "0"}, "weight is none"},
		"a weight too large": {map[string]string{"placement": "weighted", "weight": "1001"}, "weight is none"},
		"a weight with zero": {map[string]string{"placement": "weighted", "weight": "07"}, "weight is none"},
		"control characters": {map[string]string{"x": "\x1b[2J"}, "not printable"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				n := w.cluster(2, nil)
				called, tags := good(honest)
				maps.Copy(tags, forge.change)
				w.stranger(called, tags, n[0])
				time.Sleep(time.Minute)
				for _, node := range n {
					node.sees(time.Minute, "n1@10.0.0.1:7701", "n2@10.0.0.2:7701")
					node.says("WARN", "a member of the gossip is ignored", forge.reason, "gossip=10.0.0.3:7946")
					if c := strings.Count(node.log.String(), "is ignored"); c != 1 {
						t.Errorf("warned %d times:\n%s", c, node.log)
					}
				}
				n3 := w.start("n3", n[1]) // the real one
				n3.sees(time.Minute, "n1", "n2", "n3@10.0.0.4:7701")
			})
		})
	}
}

func TestGarbageTagsAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		random := rand.New(rand.NewPCG(1, 2))
		metas := [][]byte{nil, {255}, {255, 0xdf, 0xff, 0xff, 0xff, 0xff}, {255, 0x81, 0xa1}, {255, 0xc0}, {255, 0x90}}
		for range 10 {
			b := make([]byte, random.IntN(512))
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			metas = append(metas, append([]byte{255}, b...), b)
		}
		for i, meta := range metas {
			w.garbage("garbage\n"+string(rune('a'+i)), meta, n[i%2])
		}
		time.Sleep(time.Minute)
		n3 := w.start("n3", n[0])
		for _, node := range append(n, n3) {
			node.sees(time.Minute, "n1", "n2", "n3")
			node.says("WARN", "a member of the gossip is ignored", `gossip=10.0.0.`, `name=garbage?`)
		}
		if c := strings.Count(n[0].log.String(), "is ignored"); c > 2*perWindow {
			t.Errorf("%d warnings in two minutes", c)
		}
	})
}

// A run's name is its own: whoever takes it is not let in, and the rightful owner stays, be it the seed itself.
func TestANameCannotBeTaken(t *testing.T) {
	for victim := range 2 {
		bubble(t, func(t *testing.T, w *world) {
			n := w.cluster(2, nil)
			forged := n[victim].self
			forged.node.Authority = "10.0.0.3:7701"
			w.stranger(forged.name(), forged.tags(), n[0])
			time.Sleep(time.Minute)
			for _, node := range n {
				node.sees(time.Minute, "n1@10.0.0.1:7701", "n2@10.0.0.2:7701")
				if node.Err() != nil {
					t.Error(node.Err())
				}
			}
			n[0].says("WARN", "onflict", "10.0.0.3")
		})
	}
}

// Events and queries that somebody floods the gossip with are drained and do not hold the view up.
func TestAFloodOfEvents(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n := w.cluster(2, nil)
		s := w.stranger("stranger", nil, n[0])
		for i := range 3000 {
			if err := s.UserEvent(strconv.Itoa(i), nil, false); err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 {
				time.Sleep(10 * time.Millisecond) // gossip goes out
			}
		}
		n3 := w.start("n3", n[1])
		for _, node := range append(n, n3) {
			if took := node.sees(time.Minute, "n1", "n2", "n3"); took > 10*time.Second {
				t.Errorf("%s saw n3 after %s", node.cfg.ID, took)
			}
		}
		if at, err := strconv.Atoi(n[0].serf.Stats()["event_time"]); err != nil || at < 2 {
			t.Errorf("no events came: %d, %v", at, err)
		}
	})
}

// FuzzReadTags: whatever a member says, it is refused with one readable line, or what was read makes the same tags again.
func FuzzReadTags(f *testing.F) {
	join := func(name string, tags map[string]string) string {
		text := name
		for k, v := range tags {
			text += "\x00" + k + "\x00" + v
		}
		return text
	}
	s := said{cluster: "wasilo", node: cluster.Node{ID: "n1", Authority: "[::1]:7701", Boot: 1 << 60}, extra: map[string]string{"a": "b"}}
	f.Add(join(s.name(), s.tags()))
	s.mode, s.node.Authority = cluster.Client, ""
	f.Add(join(s.name(), s.tags()))
	s = said{cluster: "wasilo", node: cluster.Node{ID: "n1", Authority: "a:1", Boot: 1, Weight: 7}, placement: weighted}
	f.Add(join(s.name(), s.tags()))
	f.Add("n1-0000000000000001\x00v\x001\x00cluster\x00wasilo\x00id\x00n1\x00boot\x000000000000000001\x00mode\x00client\x00link\x00")
	f.Add("n1-0000000000000001\x00v\x001\x00cluster\x00wasilo\x00id\x00n1\x00boot\x001\x00mode\x00member\x00link\x00a:1")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		fields := strings.Split(text, "\x00")
		tags := make(map[string]string)
		own := ""
		if len(text)%2 == 1 {
			own = weighted
		}
		for i := 1; i+1 < len(fields); i += 2 {
			tags[fields[i]] = fields[i+1]
		}
		s, err := read(fields[0], tags, said{cluster: "wasilo", node: cluster.Node{ID: "me"}, placement: own})
		if err != nil {
			if line := err.Error(); len(line) > 400 || line != plain(line, 400) {
				t.Errorf("%q is no line for a log", line)
			}
			return
		}
		if s.name() != fields[0] || !maps.Equal(s.tags(), tags) {
			t.Errorf("%q and %v were read as %+v", fields[0], tags, s)
		}
		if s.mode == cluster.Member {
			if err := checkNode(s.node); err != nil {
				t.Error(err)
			}
		}
	})
}
