package consensus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// FuzzRaftID: raft ids and addresses have one spelling, lists of voters have one once they are read.
func FuzzRaftID(f *testing.F) {
	for _, s := range []string{"a#0000000000000001", "node-1.x_y#ffffffffffffffff@[::1]:7", "c=[::1]:3, a=a:1,b=b:2", "a=a:1", "a#1", "=", "#@", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseRaftID(s); err == nil && id.String() != s {
			t.Errorf("%q is read as %v", s, id)
		}
		if id, authority, err := parseAddress(raft.ServerAddress(s)); err == nil && string(id.address(authority)) != s {
			t.Errorf("%q is read as %v at %q", s, id, authority)
		}
		list, err := ParseVoters(s)
		if err != nil {
			if !errors.Is(err, ErrRefused) {
				t.Error(err)
			}
			return
		}
		if again, err := ParseVoters(formatVoters(list)); err != nil || !slices.Equal(again, list) {
			t.Errorf("%q is read as %v, then as %v, %v", s, list, again, err)
		}
	})
}

// FuzzPassport: a directory is refused, as damaged or as another's, or is the voter's whose passport would be written the same.
func FuzzPassport(f *testing.F) {
	f.Add([]byte(`{"format":1,"cluster":"c","node":"n1","nonce":"00000000000000ff"}`))
	f.Add([]byte(`{"format":1,"cluster":"c","node":"n1","nonce":"ff"}`))
	f.Add([]byte(`{"format":2,"cluster":"c","node":"n1"}`))
	f.Add([]byte(`{"format":1,"cluster":"d","node":"n1"}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parsePassport(b, "dir/voter.json", "dir", "c", "n1")
		if err != nil {
			if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrDamaged) || id != (RaftID{}) || !strings.Contains(err.Error(), "voter.json") {
				t.Fatalf("%v, %v", id, err)
			}
			return
		}
		again, err := json.Marshal(passport{Format: formatVersion, Cluster: "c", Node: id.Node, Nonce: fmt.Sprintf("%016x", id.Nonce)})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parsePassport(again, "dir/voter.json", "dir", "c", "n1"); err != nil || same != id {
			t.Fatalf("%s is read as %v, %s as %v, %v", b, id, again, same, err)
		}
	})
}

// FuzzConfiguration: of what other voters send as a configuration raft panics at nothing that has passed the checks, and means the same by it
// when it is written anew.
func FuzzConfiguration(f *testing.F) {
	f.Add(raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a#0000000000000001", Address: "a#0000000000000001@h:1"}, {Suffrage: raft.Nonvoter, ID: "b"}}}))
	f.Add(raft.EncodeConfiguration(raft.Configuration{}))
	f.Add([]byte("\x81\xa7Servers\xdd\x0f\xff\xff\xff\x80"))
	f.Add(append([]byte("\x81\xa1x"), bytes.Repeat([]byte{0x91}, 5000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &raft.InstallSnapshotRequest{SnapshotVersion: raft.SnapshotVersionMax, Term: 1, LastLogIndex: 1, LastLogTerm: 1, Configuration: b}
		if err := checkConfiguration(b); err != nil {
			if (standing{}).snapshot(m) == nil || checkEntry(&raft.Log{Type: raft.LogConfiguration, Data: b}) == nil {
				t.Fatalf("it passes, though %v", err)
			}
			return
		}
		if err := (standing{}).snapshot(m); err != nil {
			t.Fatal(err)
		}
		c := raft.DecodeConfiguration(b)
		if len(c.Servers) > len(b) {
			t.Fatalf("%d servers of %d bytes", len(c.Servers), len(b))
		}
		if same := raft.DecodeConfiguration(raft.EncodeConfiguration(c)); !reflect.DeepEqual(same, c) {
			t.Fatalf("%x is read as %+v, then as %+v", b, c, same)
		}
	})
}

// FuzzSnapshotHead: a snapshot has one way to be written.
func FuzzSnapshotHead(f *testing.F) {
	f.Add(appendSnapshot(nil, 7, []byte("state")))
	f.Add(appendSnapshot(nil, 1<<63, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if index, state, err := readSnapshot(b); err == nil && !bytes.Equal(appendSnapshot(nil, index, state), b) {
			t.Fatalf("%x is read as that of index %d", b, index)
		}
	})
}
