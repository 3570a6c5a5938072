package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/cluster/core"
)

func rid(node core.NodeID, nonce uint64) RaftID { return RaftID{node, nonce} }

func TestJudge(t *testing.T) {
	list := []core.Member{{ID: "a", Authority: "a:1"}, {ID: "b", Authority: "b:1"}, {ID: "c", Authority: "c:1"}}
	text := formatVoters(list)
	a, b, c := hello{id: rid("a", 1), list: text}, hello{id: rid("b", 2), list: text}, hello{id: rid("c", 3), list: text}
	begun := func(h hello, members ...RaftID) hello {
		h.begun, h.index = true, 1
		for _, m := range members {
			h.members = append(h.members, m.String())
		}
		return h
	}
	other := func(h hello) hello { h.list = "x=y:1"; return h }
	of := func(hs ...hello) map[core.NodeID]hello {
		m := map[core.NodeID]hello{}
		for _, h := range hs {
			m[h.id.Node] = h
		}
		return m
	}
	ids := []RaftID{a.id, b.id, c.id}
	for _, k := range []struct {
		name    string
		self    hello
		answers map[core.NodeID]hello
		want    verdict
	}{
		{"nobody answers", a, of(), verdict{missing: []core.NodeID{"b", "c"}}},
		{"one does not", a, of(b), verdict{missing: []core.NodeID{"c"}}},
		{"all answer the smallest", a, of(b, c), verdict{begin: ids}},
		{"all answer another", b, of(a, c), verdict{await: true}},
		{"a log with this one", b, of(begun(a, ids...)), verdict{await: true}},
		{"a log with this one, known to one of two", c, of(begun(a, rid("a", 1)), begun(b, ids...)), verdict{await: true}},
		{"a log without it", a, of(begun(b, rid("a", 9), b.id, c.id)), verdict{outside: []string{"a#0000000000000009", b.id.String(), c.id.String()}}},
		{"a log without it, and another list", a, of(begun(other(b), b.id), other(c)), verdict{outside: []string{b.id.String()}}},
		{"a log with it, and another list", a, of(begun(other(b), a.id), c), verdict{await: true}},
	} {
		if got := judge(k.self, list, k.answers); !reflect.DeepEqual(got, k.want) {
			t.Errorf("%s: %+v, and not %+v", k.name, got, k.want)
		}
	}
	got := judge(a, list, of(b, other(c))).refused
	if !errors.Is(got, ErrRefused) || !strings.Contains(got.Error(), text) || !strings.Contains(got.Error(), "node c has x=y:1") {
		t.Error(got)
	}
	none := c
	none.list = ""
	if got := judge(a, list, of(none)).refused; got == nil || !strings.Contains(got.Error(), "node c has none") {
		t.Error(got)
	}
	if got := judge(hello{id: rid("a", 1), list: "a=a:1"}, list[:1], nil); !reflect.DeepEqual(got, verdict{begin: ids[:1]}) {
		t.Errorf("alone: %+v", got)
	}
}

func TestHello(t *testing.T) {
	h := hello{id: rid("a", 1<<63), list: "a=a:1", begun: true, index: 7, members: []string{"a#8000000000000000", "b#0000000000000002"}, last: 99, failed: true}
	b := appendHello(nil, &h)
	got, err := readHello(b)
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range b {
		if _, err := readHello(b[:n]); err == nil {
			t.Errorf("%d bytes of it can be read", n)
		}
	}
	lie := bytes.Replace(b, []byte("a=a:1"), []byte("a=a:2"), 1)
	if _, err := readHello(lie); err == nil || !strings.Contains(err.Error(), "hash") {
		t.Error(err)
	}
	many := abi.AppendArray(abi.AppendUint(abi.AppendMap(nil, 1), helloMembers), 1<<20)
	if _, err := readHello(many); err == nil {
		t.Error("a million voters")
	}
	members := abi.AppendText(abi.AppendArray(abi.AppendUint(nil, helloMembers), 1), "a#0000000000000001")
	if _, err := readHello(append(append(abi.AppendMap(nil, 2), members...), members...)); err == nil || !strings.Contains(err.Error(), "key 6 stands twice") {
		t.Error(err)
	}
	later := abi.AppendUint(abi.AppendUint(abi.AppendMap(nil, 1), helloFormat), 2)
	if _, err := readHello(later); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Error(err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, &hello{id: rid("a", 1), list: "a=a:1", members: []string{"a#0000000000000001"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(b)
		if err != nil {
			return
		}
		again, err := readHello(appendHello(nil, &h))
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("%+v became %+v: %v", h, again, err)
		}
	})
}

func TestRaftID(t *testing.T) {
	for _, s := range []string{"a#0000000000000001", "node-1.x_y#ffffffffffffffff"} {
		if id, err := ParseRaftID(s); err != nil || id.String() != s {
			t.Error(s, id, err)
		}
	}
	for _, s := range []string{"", "a", "#0000000000000001", "a#1", "a#000000000000000G", "a#000000000000000A", "a b#0000000000000001", "a#00000000000000001", "a#0000000000000001@x:1"} {
		if id, err := ParseRaftID(s); err == nil {
			t.Error(s, "became", id)
		}
	}
	id, authority, err := parseAddress(rid("a", 1).address("[::1]:7"))
	if err != nil || id != rid("a", 1) || authority != "[::1]:7" {
		t.Error(id, authority, err)
	}
	for _, s := range []raft.ServerAddress{"", "a:1", "a@b:1"} {
		if _, _, err := parseAddress(s); err == nil {
			t.Errorf("%q is an address", s)
		}
	}
}

func TestParseVoters(t *testing.T) {
	list, err := ParseVoters("c=[::1]:3, a=a:1,b=b:2")
	if err != nil || formatVoters(list) != "a=a:1,b=b:2,c=[::1]:3" {
		t.Error(list, err)
	}
	for _, s := range []string{"", "a", "a=", "=a:1", "a=a:1,", "a=a:1,a=b:2"} {
		if _, err := ParseVoters(s); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestCheckEntry(t *testing.T) {
	good := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}})
	for _, c := range []struct {
		l  raft.Log
		ok bool
	}{
		{raft.Log{Type: raft.LogCommand}, true},
		{raft.Log{Type: raft.LogNoop}, true},
		{raft.Log{Type: raft.LogBarrier}, true},
		{raft.Log{Type: raft.LogConfiguration, Data: good}, true},
		{raft.Log{Type: raft.LogConfiguration, Data: good[:len(good)/2]}, false},
		{raft.Log{Type: raft.LogConfiguration, Data: []byte("noise")}, false},
		{raft.Log{Type: raft.LogConfiguration}, false},
		{raft.Log{Type: raft.LogAddPeerDeprecated}, false},
		{raft.Log{Type: 77}, false},
	} {
		if err := checkEntry(&c.l); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.l, err)
		}
	}
}

func TestSnapshotHead(t *testing.T) {
	b := appendSnapshot(nil, 7, []byte("state"))
	if index, state, err := readSnapshot(b); index != 7 || string(state) != "state" || err != nil {
		t.Error(index, state, err)
	}
	for n := range snapshotHead {
		if _, _, err := readSnapshot(b[:n]); err == nil {
			t.Errorf("%d bytes of it can be read", n)
		}
	}
	b[len(snapshotMagic)] = 2
	if _, _, err := readSnapshot(b); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Error(err)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})), "raft")
	l.Debug("hidden")
	l.Trace("hidden")
	l.Info("hidden")
	l.Warn("heartbeat timeout reached, starting election", "hidden", 1)
	l.Error("failed to get log", "index", 1, "error", raft.ErrLogNotFound, "hidden", 1)
	l.With("k", 1).Named("part").Warn("said", "peer", rid("a", 1), "list", hclog.Fmt("%d of %d", 1, 3), "odd")
	l.Log(hclog.Off, "hidden")
	l.ResetNamed("").Error("bare", "err", errors.New("broken"))
	got := out.String()
	for _, want := range []string{`level=WARN msg=said part=raft.part k=1 peer=a#0000000000000001 list="1 of 3" odd="(no value)"`, "level=ERROR msg=bare err=broken"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "hidden") || l.IsDebug() || l.IsInfo() || l.GetLevel() != hclog.Warn {
		t.Error(got, fmt.Sprint(l.GetLevel()))
	}
}
