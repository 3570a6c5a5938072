package core

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/wasilo/wasilo/abi"
)

// TestScenarios replays testdata/scenarios: each line of a step is one input of a machine, the output its effects and the
// events it queued.
//
// Commands: new [client], start, topology ID=AUTHORITY[#BOOT]…, kinds NODE KIND…, block NODE, unblock NODE,
// resolve KIND/ID [existing] [finishing] [refused=E], activated KIND/ID E, failed KIND/ID E CODE, started, releasing,
// terminated KIND/ID E, stream-ended, resubscribed, shutdown, release-all, owner KIND/ID, ledger. The node is n1; E is an epoch's index.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/scenarios", func(t *testing.T, path string) {
		s := &scenario{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.run(t, d)
		})
	})
}

type scenario struct {
	m   *Machine
	now time.Duration
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	var out strings.Builder
	lines := strings.Split(strings.TrimSpace(d.Input), "\n")
	if d.Cmd != "step" {
		t.Fatalf("%s: unknown directive %q", d.Pos, d.Cmd)
	}
	for _, line := range lines {
		if len(lines) > 1 {
			fmt.Fprintf(&out, "> %s\n", line)
		}
		s.line(t, strings.Fields(line), &out)
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

func (s *scenario) line(t *testing.T, f []string, out *strings.Builder) {
	t.Helper()
	in := Input{}
	switch f[0] {
	case "new":
		mode := MemberMode
		if len(f) > 1 && f[1] == "client" {
			mode = ClientMode
		}
		s.m, s.now = NewMachine(Config{Self: "n1", Mode: mode}), 0
		return
	case "owner":
		m, placing := s.m.View().OwnerOf(must(abi.ParseIdentity(f[1])))
		if placing != Placed {
			fmt.Fprintf(out, "placing %d\n", placing)
			return
		}
		fmt.Fprintf(out, "%s at %s\n", m.ID, m.Authority)
		return
	case "ledger":
		for p := range Partition(Partitions) {
			s.m.Ledger().Leases(p, func(l Lease) bool {
				fmt.Fprintf(out, "%s epoch %d %s\n", l.Identity, l.Epoch.Index, l.State)
				return true
			})
		}
		l := s.m.Ledger()
		fmt.Fprintf(out, "%d leases, %d in force, %d started\n", l.Len(), l.InForce(), l.Started())
		return
	case "start":
		in.Type = Start
	case "topology":
		in.Type = TopologyChanged
		var members []Member
		for _, m := range f[1:] {
			id, rest, _ := strings.Cut(m, "=")
			authority, boot, _ := strings.Cut(rest, "#")
			n, _ := strconv.ParseUint(boot, 10, 64)
			members = append(members, Member{ID: NodeID(id), Authority: authority, Boot: n})
		}
		in.Topology = must(NewTopology(members...))
	case "kinds":
		in.Type, in.Node, in.Kinds = SetKinds, NodeID(f[1]), slices.Clone(f[2:])
	case "block":
		in.Type, in.Node = Block, NodeID(f[1])
	case "unblock":
		in.Type, in.Node = Unblock, NodeID(f[1])
	case "stream-ended":
		in.Type, in.Reason = StreamEnded, "test"
	case "resubscribed":
		in.Type = Resubscribed
	case "resolve":
		in.Type, in.Identity = Resolve, must(abi.ParseIdentity(f[1]))
		for _, opt := range f[2:] {
			if e, ok := strings.CutPrefix(opt, "refused="); ok {
				in.Refused.Index = must(strconv.ParseUint(e, 10, 64))
			}
			in.Existing = in.Existing || opt == "existing"
			in.Finishing = in.Finishing || opt == "finishing"
		}
	case "activated", "failed", "started", "releasing", "terminated":
		in.Type = map[string]InputType{"activated": Activated, "failed": Failed, "started": Started, "releasing": Releasing,
			"terminated": Terminated}[f[0]]
		in.Lease = Lease{Identity: must(abi.ParseIdentity(f[1])), Epoch: abi.Epoch{Index: must(strconv.ParseUint(f[2], 10, 64))}}
		in.Handle = "handle" + f[2]
		in.Reason = "test"
		if f[0] == "failed" {
			in.Code, _ = abi.CodeByName(f[3])
		}
	case "shutdown":
		in.Type = Shutdown
	case "lapse":
		in.Type = Lapse
	case "release-all":
		in.Type = ReleaseAll
	default:
		t.Fatalf("unknown command %q", f[0])
	}
	s.now += time.Second
	for _, e := range s.m.Step(&in, s.now) {
		out.WriteString(e.describe() + "\n")
	}
	for _, ev := range s.m.TakeEvents(nil) {
		fmt.Fprintf(out, "event %d %s", ev.Seq, ev.Type)
		if !ev.Identity.IsZero() {
			fmt.Fprintf(out, " %s epoch %d", ev.Identity, ev.Epoch.Index)
		}
		for _, part := range []string{string(ev.Node), ev.Reason} {
			if part != "" {
				out.WriteString(" " + part)
			}
		}
		if ev.Code != abi.ErrNone {
			out.WriteString(" " + ev.Code.String())
		}
		if ev.Count != 0 {
			fmt.Fprintf(out, " (%d)", ev.Count)
		}
		if ev.At != s.now {
			fmt.Fprintf(out, " at the wrong time %s", ev.At)
		}
		out.WriteString("\n")
	}
}

// describe writes an effect for scenarios.
func (e *Effect) describe() string {
	lease := fmt.Sprintf("%s epoch %d", e.Lease.Identity, e.Lease.Epoch.Index)
	switch e.Type {
	case Use:
		return fmt.Sprintf("use %s %v on %s", lease, e.Handle, e.Member.ID)
	case Activate:
		return fmt.Sprintf("activate %s on %s", lease, e.Member.ID)
	case Forward:
		return fmt.Sprintf("forward to %s at %s", e.Member.ID, e.Member.Authority)
	case Wait:
		if e.Refused {
			return "wait, with a back-off"
		}
		return "wait"
	case Refuse:
		return "refuse: " + e.Refusal.Code().String()
	case Admit:
		return fmt.Sprintf("admit %s %v", lease, e.Handle)
	case Invalidate:
		return "invalidate " + lease
	case Recheck:
		return "recheck"
	case Revoke:
		return fmt.Sprintf("revoke %s %v (%s)", lease, e.Handle, e.Lease.State)
	case Wake:
		return "wake " + e.Identity.String()
	case Empty:
		return "empty"
	case Forget:
		if e.Moved == nil {
			return fmt.Sprintf("forget all up to epoch %d", e.Epoch.Index)
		}
		n := 0
		for _, lost := range e.Moved {
			if lost {
				n++
			}
		}
		return fmt.Sprintf("forget %d partitions of %s up to epoch %d", n, e.Kind, e.Epoch.Index)
	}
	return "?"
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
