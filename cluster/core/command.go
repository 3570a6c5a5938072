package core

import (
	"errors"
	"fmt"
	"slices"

	"github.com/wasilo/wasilo/abi"
)

// CommandType says what a [Command] does to a [Table].
type CommandType uint8

// The commands of the log. They are part of the protocol between nodes: append, never reorder, never reuse. What each needs is said
// beside it; one whose condition does not hold is void: it changes nothing and its result says so.
const (
	// OpenSession begins a session of a run of a node (Node, Boot, Authority, Weight, Kinds, Speaks), or renews the one that this run has.
	// Its result is the session.
	OpenSession CommandType = 1 + iota
	// RenewSession renews a session (Session) that has not ended.
	RenewSession
	// ExpireSession ends a session (Session) unless it was renewed after the index given (Index).
	ExpireSession
	// CloseSession ends a session (Session) that has given up everything it had at an index (Index), unless it was given more since.
	CloseSession
	// UpdateSession says anew what a session hosts, and whether it leaves (Session, Kinds, Weight, Draining).
	UpdateSession
	// Regroup makes a placement group of kinds (Kinds) that are in no group, or all in one; they keep their owners.
	Regroup
	// Assign gives partitions that nobody owns to a session (Group, Session, Partitions).
	Assign
	// BeginMove plans that partitions of one session go to another (Group, From, Session, Partitions). Its result is the move.
	BeginMove
	// AbortMove gives up a move (Move) that is not released.
	AbortMove
	// Release gives up partitions (Session, Group, Partitions) that the session owned at an index (Index): to the target of a move that
	// still stands (Move), with what the target must have received (Manifest), or without a move to nobody.
	Release
	// SettleMove says that the target has taken in what came with a released move (Move).
	SettleMove
	// RaiseGeneration begins a new life of a log that lost its majority: every session ends (Generation, higher than before).
	RaiseGeneration
	// BlockNode has a node's sessions not be renewed, nor opened, until UnblockNode (Node): what it owns goes to others once its time is up.
	BlockNode
	UnblockNode

	commandEnd
)

var commandNames = [...]string{OpenSession: "open", RenewSession: "renew", ExpireSession: "expire", CloseSession: "close",
	UpdateSession: "update", Regroup: "regroup", Assign: "assign", BeginMove: "move", AbortMove: "abort", Release: "release",
	SettleMove: "settle", RaiseGeneration: "generation", BlockNode: "block", UnblockNode: "unblock"}

// String returns a word for the command.
func (t CommandType) String() string {
	if t > 0 && int(t) < len(commandNames) {
		return commandNames[t]
	}
	return "invalid"
}

// SessionID, GroupID and MoveID count from 1 in the order in which the log made them, and are never used again. 0 is none.
type (
	SessionID uint64
	GroupID   uint64
	MoveID    uint64
)

// Command is one change of a [Table]. Which fields it uses is said at its type.
type Command struct {
	Type       CommandType
	Session    SessionID
	From       SessionID
	Group      GroupID
	Move       MoveID
	Index      uint64
	Node       NodeID
	Boot       uint64
	Authority  string
	Weight     uint32 // 0: 1
	Kinds      []string
	Draining   bool
	Speaks     uint32 // the newest version of entries that the node understands
	Partitions PartitionSet
	Manifest   []byte
	Generation uint32
}

// Limits of an entry, which come from what a table may hold.
const (
	maxKindsOfNode = 1 << 12
	maxManifest    = 256
	maxCommands    = 1 << 16
)

// ErrEntryVersion is wrapped by the error for an entry, or a snapshot, that a newer version wrote. Going on without it would make this
// table another than those of the other nodes.
var ErrEntryVersion = errors.New("it was written by a newer version of wasilo")

// The keys of a command. Append, never reorder, never reuse. A field that is zero is left out.
const (
	keySession = iota + 1
	keyFrom
	keyGroup
	keyMove
	keyIndex
	keyNode
	keyBoot
	keyAuthority
	keyWeight
	keyKinds
	keyDraining
	keySpeaks
	keyPartitions
	keyManifest
	keyGeneration
)

// AppendEntry writes commands as an entry of the first version, which every node reads: what a node proposes. See [AppendEntryAs].
func AppendEntry(b []byte, commands ...Command) []byte { return AppendEntryAs(b, 1, commands...) }

// AppendEntryAs writes commands as one entry of the log: an array of the version and of an array [type, {key: value}] each. The version is
// [Table.Speaks], so that during an upgrade no node gets what it cannot read.
func AppendEntryAs(b []byte, version uint32, commands ...Command) []byte {
	b = abi.AppendUint(abi.AppendArray(b, 1+len(commands)), uint64(version))
	for i := range commands {
		b = commands[i].append(b)
	}
	return b
}

func (c *Command) append(b []byte) []byte {
	b = abi.AppendUint(abi.AppendArray(b, 2), uint64(c.Type))
	var f [256]byte // most commands are a number or two
	fields, n := f[:0], 0
	number := func(key, v uint64) {
		if v != 0 {
			fields, n = abi.AppendUint(abi.AppendUint(fields, key), v), n+1
		}
	}
	text := func(key uint64, v string) {
		if v != "" {
			fields, n = abi.AppendText(abi.AppendUint(fields, key), v), n+1
		}
	}
	number(keySession, uint64(c.Session))
	number(keyFrom, uint64(c.From))
	number(keyGroup, uint64(c.Group))
	number(keyMove, uint64(c.Move))
	number(keyIndex, c.Index)
	text(keyNode, string(c.Node))
	number(keyBoot, c.Boot)
	text(keyAuthority, c.Authority)
	number(keyWeight, uint64(c.Weight))
	if len(c.Kinds) > 0 {
		fields, n = appendTexts(abi.AppendUint(fields, keyKinds), c.Kinds), n+1
	}
	if c.Draining {
		fields, n = abi.AppendBool(abi.AppendUint(fields, keyDraining), true), n+1
	}
	number(keySpeaks, uint64(c.Speaks))
	if c.Partitions != (PartitionSet{}) {
		fields, n = abi.AppendBytes(abi.AppendUint(fields, keyPartitions), c.Partitions.append(nil)), n+1
	}
	if len(c.Manifest) > 0 {
		fields, n = abi.AppendBytes(abi.AppendUint(fields, keyManifest), c.Manifest), n+1
	}
	number(keyGeneration, uint64(c.Generation))
	return append(abi.AppendMap(b, n), fields...)
}

func appendTexts(b []byte, texts []string) []byte {
	b = abi.AppendArray(b, len(texts))
	for _, s := range texts {
		b = abi.AppendText(b, s)
	}
	return b
}

func readTexts(r *abi.Reader, most int) []string {
	n := r.Array()
	if n > most {
		r.Fail(fmt.Sprintf("%d names; the limit is %d", n, most))
	}
	var texts []string
	for ; n > 0 && r.Err() == nil; n-- {
		texts = append(texts, r.Text())
	}
	return texts
}

// ReadEntry reads what [AppendEntry] wrote. The error says what is wrong and where, and wraps [ErrEntryVersion] for a later version.
func ReadEntry(b []byte) ([]Command, error) {
	r := abi.NewReader(b)
	n := r.Array() - 1
	switch version := r.Uint(); {
	case r.Err() != nil:
	case version > EntryVersion:
		return nil, fmt.Errorf("an entry of version %d, and this node reads up to %d: %w", version, EntryVersion, ErrEntryVersion)
	case version == 0:
		r.Fail("an entry has a version")
	}
	if n < 0 || n > maxCommands {
		r.Fail("an entry has a version and at most 65,536 commands")
	}
	var all []Command
	for ; n > 0 && r.Err() == nil; n-- {
		c, known := readCommand(&r)
		if r.Err() == nil && !known {
			return nil, fmt.Errorf("a command of type %d: %w", c.Type, ErrEntryVersion)
		}
		all = append(all, c)
	}
	r.End()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("an entry of the log: %w", err)
	}
	return all, nil
}

func readCommand(r *abi.Reader) (c Command, known bool) {
	if r.Array() != 2 {
		r.Fail("a command is a type and its fields")
	}
	t := r.Uint()
	c.Type = CommandType(min(t, 255))
	known = t > 0 && t < uint64(commandEnd)
	last := uint64(0)
	for n := r.Map(); n > 0 && r.Err() == nil; n-- {
		key := r.Uint()
		if key <= last {
			r.Fail("the keys of a command go up")
		}
		last = key
		switch key {
		case keySession:
			c.Session = SessionID(r.Uint())
		case keyFrom:
			c.From = SessionID(r.Uint())
		case keyGroup:
			c.Group = GroupID(r.Uint())
		case keyMove:
			c.Move = MoveID(r.Uint())
		case keyIndex:
			c.Index = r.Uint()
		case keyNode:
			c.Node = NodeID(r.Text())
		case keyBoot:
			c.Boot = r.Uint()
		case keyAuthority:
			c.Authority = r.Text()
		case keyWeight:
			c.Weight = r.Uint32()
		case keyKinds:
			c.Kinds = readTexts(r, maxKindsOfNode)
		case keyDraining:
			c.Draining = r.Bool()
		case keySpeaks:
			c.Speaks = r.Uint32()
		case keyPartitions:
			if !c.Partitions.read(r.Bytes()) {
				r.Fail("these bytes are no set of partitions")
			}
		case keyManifest:
			if c.Manifest = slices.Clone(r.Bytes()); len(c.Manifest) > maxManifest {
				r.Fail(fmt.Sprintf("a manifest of %d bytes; the limit is %d", len(c.Manifest), maxManifest))
			}
		case keyGeneration:
			c.Generation = r.Uint32()
		default:
			known = false // a field that changes what the command means
			r.Skip()
		}
	}
	return c, known
}

// Followed returns the entry as nodes need it that only follow the log, given what became of its commands; nil where nothing of it concerns
// them. Renewals are most of the log and change nothing for them. Void commands have to go with them: without the renewal that made it
// void, an [ExpireSession] would have an effect in their tables.
func Followed(entry []byte, results []Result) ([]byte, error) {
	commands, err := ReadEntry(entry)
	if err != nil {
		return nil, err
	}
	if len(results) != len(commands) {
		return nil, fmt.Errorf("an entry of the log: %d results of %d commands", len(results), len(commands))
	}
	left := make([]Command, 0, len(commands))
	for i := range commands {
		if results[i].Void == "" && commands[i].Type != RenewSession {
			left = append(left, commands[i])
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	r := abi.NewReader(entry)
	r.Array()
	return AppendEntryAs(nil, r.Uint32(), left...), nil
}

// Result is what became of a command.
type Result struct {
	Void string // not "": it changed nothing, and why
	ID   uint64 // the session opened, the move begun, the group made
}

// AppendResults and ReadResults carry the results of an entry to whoever proposed it.
func AppendResults(b []byte, results []Result) []byte {
	b = abi.AppendArray(b, len(results))
	for _, res := range results {
		b = abi.AppendText(abi.AppendUint(abi.AppendArray(b, 2), res.ID), res.Void)
	}
	return b
}

// ReadResults reads what [AppendResults] wrote.
func ReadResults(b []byte) ([]Result, error) {
	r := abi.NewReader(b)
	n := r.Array()
	if n > maxCommands {
		r.Fail("more results than an entry has commands")
	}
	var all []Result
	for ; n > 0 && r.Err() == nil; n-- {
		if r.Array() != 2 {
			r.Fail("a result has two items")
		}
		all = append(all, Result{ID: r.Uint(), Void: r.Text()})
	}
	r.End()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("results of an entry: %w", err)
	}
	return all, nil
}
