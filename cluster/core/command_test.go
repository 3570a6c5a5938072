package core

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/wasilo/wasilo/abi"
)

func drawPartitions(t *rapid.T) (s PartitionSet) {
	for _, p := range rapid.SliceOfN(rapid.IntRange(0, Partitions-1), 0, 20).Draw(t, "partitions") {
		s.Add(Partition(p))
	}
	return s
}

// drawCommand draws any command, with ids of which few are of anything.
func drawCommand(t *rapid.T) Command {
	kinds := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4)
	id := rapid.Uint64Range(0, 12)
	return Command{
		Type: CommandType(rapid.IntRange(1, int(commandEnd)-1).Draw(t, "type")), Session: SessionID(id.Draw(t, "session")),
		From: SessionID(id.Draw(t, "from")), Group: GroupID(id.Draw(t, "group")), Move: MoveID(id.Draw(t, "move")),
		Index: rapid.Uint64Range(0, 60).Draw(t, "index"), Node: NodeID(rapid.SampledFrom([]string{"", "n1", "n2", "n3"}).Draw(t, "node")),
		Boot: rapid.Uint64Range(0, 2).Draw(t, "boot"), Authority: rapid.SampledFrom([]string{"", "h:1", "?"}).Draw(t, "authority"),
		Weight: rapid.Uint32Range(0, 2).Draw(t, "weight"), Kinds: kinds.Draw(t, "kinds"), Draining: rapid.Bool().Draw(t, "draining"),
		Speaks: rapid.Uint32Range(0, 2).Draw(t, "speaks"), Partitions: drawPartitions(t),
		Manifest: rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "manifest"), Generation: rapid.Uint32Range(0, 3).Draw(t, "generation"),
	}
}

// normal is a command as it is read: empty slices are nil.
func normal(c Command) Command {
	if len(c.Kinds) == 0 {
		c.Kinds = nil
	}
	if len(c.Manifest) == 0 {
		c.Manifest = nil
	}
	return c
}

func TestEntriesAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Command
		for range rapid.IntRange(0, 5).Draw(t, "commands") {
			all = append(all, normal(drawCommand(t)))
		}
		entry := AppendEntry([]byte("before"), all...)[len("before"):]
		got, err := ReadEntry(entry)
		if err != nil || !slices.EqualFunc(got, all, func(a, b Command) bool { return reflect.DeepEqual(normal(a), b) }) {
			t.Fatalf("%v: wrote %+v, read %+v", err, all, got)
		}
		var results []Result
		for range all {
			results = append(results, Result{Void: rapid.SampledFrom([]string{"", "why"}).Draw(t, "void"), ID: rapid.Uint64().Draw(t, "id")})
		}
		if back, err := ReadResults(AppendResults(nil, results)); err != nil || !slices.Equal(back, results) {
			t.Fatalf("%v: wrote %v, read %v", err, results, back)
		}
	})
}

// TestEntriesOfLaterVersions: what this version does not know must stop it, whatever else is wrong.
func TestEntriesOfLaterVersions(t *testing.T) {
	command := func(kind uint64, key uint64) []byte {
		b := abi.AppendUint(abi.AppendArray(nil, 2), EntryVersion)
		b = abi.AppendUint(abi.AppendArray(b, 2), kind)
		return abi.AppendUint(abi.AppendUint(abi.AppendMap(b, 1), key), 1)
	}
	for name, entry := range map[string][]byte{
		"version": abi.AppendUint(abi.AppendArray(nil, 1), EntryVersion+1),
		"type":    command(uint64(commandEnd), keySession),
		"huge":    command(1<<40, keySession),
		"field":   command(uint64(RenewSession), keyGeneration+1),
	} {
		if _, err := ReadEntry(entry); !errors.Is(err, ErrEntryVersion) {
			t.Errorf("%s: %v", name, err)
		}
		table := NewTable()
		if _, err := table.Apply(7, entry); !errors.Is(err, ErrEntryVersion) || table.Index() != 7 {
			t.Errorf("%s applied: %v, index %d", name, err, table.Index())
		}
	}
	for name, hexed := range map[string]string{
		"nothing": "", "no array": "01", "empty": "80", "version 0": "8100", "more after it": "810100", "keys fall": "82018202a202010101",
		"key twice": "82018202a201010101", "not a pair": "82018102", "cut off": "82018202",
	} {
		b, err := hex.DecodeString(hexed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadEntry(b); err == nil || errors.Is(err, ErrEntryVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadEntry(AppendEntry(nil, Command{Type: Release, Manifest: make([]byte, maxManifest+1)})); err == nil {
		t.Error("a manifest above the limit was read")
	}
}

// golden is one entry after another as the tests' log has them, with every command and every field.
func goldenLog() [][]Command {
	var some, few, all PartitionSet
	few.Add(3)
	some.Add(0)
	some.Add(700)
	for p := range Partition(Partitions) {
		all.Add(p)
	}
	return [][]Command{
		{{Type: OpenSession, Node: "n1", Boot: 7, Authority: "h1:1", Weight: 3, Kinds: []string{"bank", "chat"}, Speaks: 1}},
		{{Type: OpenSession, Node: "n2", Boot: 1 << 40, Authority: "[::1]:2", Kinds: []string{"bank", "chat"}, Draining: true, Speaks: 1}},
		{{Type: Regroup, Kinds: []string{"bank", "chat"}}},
		{{Type: Assign, Group: 3, Session: 1, Partitions: all}, {Type: RenewSession, Session: 2, Node: "n2"}},
		{{Type: BeginMove, Group: 3, From: 1, Session: 2, Partitions: some}},
		{{Type: AbortMove, Move: 4}},
		{{Type: BeginMove, Group: 3, From: 1, Session: 2, Partitions: some}, {Type: UpdateSession, Session: 2, Kinds: []string{"bank"}, Weight: 2}},
		{{Type: Release, Session: 1, Group: 3, Partitions: some, Index: 7, Move: 5, Manifest: []byte{1, 2, 3}}},
		{{Type: SettleMove, Move: 5}, {Type: Regroup, Kinds: []string{"chat"}}},
		{{Type: BeginMove, Group: 3, From: 2, Session: 1, Partitions: some}},
		{{Type: ExpireSession, Session: 2, Index: 3}, {Type: ExpireSession, Session: 2, Index: 11}},
		{{Type: OpenSession, Node: "n3", Boot: 1, Authority: "h3:1", Kinds: []string{"bank"}, Speaks: 1}},
		{{Type: BeginMove, Group: 3, From: 1, Session: 8, Partitions: few}},
		{{Type: BlockNode, Node: "n9"}, {Type: BlockNode, Node: "n10"}, {Type: UnblockNode, Node: "n9"}},
	}
}

// TestGoldenLog: these bytes are in the logs and snapshots of clusters that exist. A change of any of them needs a new version of entries.
func TestGoldenLog(t *testing.T) {
	var text strings.Builder
	table := NewTable()
	for i, commands := range goldenLog() {
		entry := AppendEntry(nil, commands...)
		results, err := table.Apply(uint64(i+1), entry)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "entry %d %x\n", i+1, entry)
		for _, r := range results {
			fmt.Fprintf(&text, "  result %d %q\n", r.ID, r.Void)
		}
		fmt.Fprintf(&text, "  snapshot %x\n", table.AppendSnapshot(nil))
	}
	// After a generation of its own all is nobody's.
	if _, err := table.Apply(99, AppendEntry(nil, Command{Type: CloseSession, Session: 1, Index: 98}, Command{Type: RaiseGeneration, Generation: 2})); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&text, "last %x\n", table.AppendSnapshot(nil))
	file := filepath.Join("testdata", "golden", "log.txt")
	if os.Getenv("WASILO_GOLDEN") == "write" {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("the log's bytes have changed; they are now\n%s", text.String())
	}
}

// TestFollowed: who follows without renewals has the table of who does not, apart from the renewals.
func TestFollowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		voter, follower := NewTable(), NewTable()
		for i := range rapid.IntRange(1, 60).Draw(t, "entries") {
			var all []Command
			for range rapid.IntRange(1, 3).Draw(t, "commands") {
				all = append(all, drawNear(t, voter))
			}
			entry := AppendEntry(nil, all...)
			results, err := voter.Apply(uint64(i+1), entry)
			if err != nil {
				t.Fatal(err)
			}
			told, err := Followed(entry, results)
			if err != nil {
				t.Fatal(err)
			}
			if told == nil {
				continue
			}
			got, err := follower.Apply(uint64(i+1), told)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range got {
				if r.Void != "" {
					t.Fatalf("entry %d is void for a follower: %s", i+1, r.Void)
				}
			}
		}
		if a, b := bare(voter), bare(follower); !bytes.Equal(a, b) {
			t.Fatalf("tables differ:\n%x\n%x", a, b)
		}
	})
	if _, err := Followed(AppendEntry(nil, Command{Type: AbortMove}), nil); err == nil {
		t.Error("results are missing, and nothing was said")
	}
}

// bare is a snapshot without what followers are not told.
func bare(t *Table) []byte {
	c, err := ReadSnapshot(t.AppendSnapshot(nil))
	if err != nil {
		panic(err)
	}
	c.index = 1 << 20
	for _, s := range c.sessions {
		s.Renewed = 0
	}
	return c.AppendSnapshot(nil)
}

func FuzzReadEntry(f *testing.F) {
	for _, commands := range goldenLog() {
		f.Add(AppendEntry(nil, commands...))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		commands, err := ReadEntry(b)
		if err != nil {
			return
		}
		entry := AppendEntry(nil, commands...)
		again, err := ReadEntry(entry)
		if err != nil || !bytes.Equal(entry, AppendEntry(nil, again...)) {
			t.Fatalf("%v: %x is read as %+v, written as %x, and then read as %+v", err, b, commands, entry, again)
		}
		table := NewTable()
		if _, err := table.Apply(1, b); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSnapshot(table.AppendSnapshot(nil)); err != nil {
			t.Fatalf("after %+v: %v", commands, err)
		}
	})
}

// FuzzReadResults: what can be read is written the same, no longer than it was.
func FuzzReadResults(f *testing.F) {
	f.Add(AppendResults(nil, []Result{{}, {ID: 1 << 40}, {Void: "why"}}))
	f.Add([]byte{0x80})
	f.Add([]byte{0x9b, 0, 0, 0, 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ReadResults(b)
		if err != nil {
			return
		}
		again := AppendResults(nil, all)
		same, err := ReadResults(again)
		if err != nil || !slices.Equal(same, all) || len(again) > len(b) || len(all) > maxCommands {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

// FuzzReadSnapshot: a table has one way to be written, and may be read of others only in that a number takes more bytes than it needs.
func FuzzReadSnapshot(f *testing.F) {
	table := NewTable()
	f.Add(table.AppendSnapshot(nil))
	f.Add(append([]byte{0x98, 8}, table.AppendSnapshot(nil)[1:]...)) // more bytes than the number needs
	for i, commands := range goldenLog() {
		if _, err := table.Apply(uint64(i+1), AppendEntry(nil, commands...)); err != nil {
			f.Fatal(err)
		}
		f.Add(table.AppendSnapshot(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ReadSnapshot(b)
		if err != nil {
			return
		}
		again := table.AppendSnapshot(nil)
		same, err := ReadSnapshot(again)
		if err != nil || !reflect.DeepEqual(same, table) || !bytes.Equal(same.AppendSnapshot(nil), again) || len(again) > len(b) {
			t.Fatalf("%x is written as %x, %v", b, again, err)
		}
		if len(again) == len(b) && !bytes.Equal(b[2:], again[2:]) { // the version behind the head is that of the table's sessions
			t.Fatalf("%x is written as %x, as long", b, again)
		}
		// What can be read can be worked with.
		tenant := NewTenant(TenantConfig{Node: "n1"}, table)
		for _, s := range table.Sessions() {
			tenant.session = s.ID
			tenant.Step(&TenantInput{Type: TenantAdvanced}, 0)
		}
		planner := Planner{strategy: Rendezvous{}}
		planner.Plan(table, 0)
		planner.Plan(table, Settle)
	})
}
