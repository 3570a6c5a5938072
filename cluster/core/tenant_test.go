package core

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestTenantScenarios replays testdata/tenant. The tenant is n1's; each line of a step happens 10 ms after the one before, and the output
// is what the tenant wants done.
//
// Commands: new KIND…, tick [DURATION], answered ASK SESSION [void], handed-over MOVE MANIFEST, failed MOVE, hosts KIND… [draining], suspended,
// close [force], snapshot (the table comes again as one), holds GROUP PARTITION, until; and what the log says:
// log COMMAND…, where unseen instead of log means that this node's copy does not get it before the next log. Of the commands
// open NODE BOOT KIND…, renew S, expire S @I, close S @I, group KIND…, assign G S P,P…, move G FROM TO P,P…, abort M,
// release S G M @I P,P…, settle M, generation N. P is a partition, or all.
func TestTenantScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata/tenant", func(t *testing.T, path string) {
		s := &tenantScenario{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			lines := strings.Split(strings.TrimSpace(d.Input), "\n")
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
		})
	})
}

type tenantScenario struct {
	tenant *Tenant
	table  *Table
	log    [][]byte // not seen yet
	now    time.Duration
}

func number(s string) uint64 { return must(strconv.ParseUint(strings.TrimPrefix(s, "@"), 10, 64)) }

func (s *tenantScenario) line(t *testing.T, f []string, out *strings.Builder) {
	t.Helper()
	s.now += 10 * time.Millisecond
	in := TenantInput{Type: TenantTick}
	switch f[0] {
	case "new":
		s.table, s.now, s.log = NewTable(), 0, nil
		s.tenant = NewTenant(TenantConfig{Node: "n1", Boot: 1, Authority: "h1:1", Kinds: f[1:]}, s.table)
		return
	case "tick":
		if len(f) > 1 {
			s.now += must(time.ParseDuration(f[1])) - 10*time.Millisecond
		}
	case "answered":
		in = TenantInput{Type: TenantAnswered, Ask: number(f[1]), Session: SessionID(number(f[2])), Void: len(f) > 3}
	case "handed-over":
		in = TenantInput{Type: TenantHandedOver, Move: MoveID(number(f[1])), Manifest: []byte(f[2])}
	case "failed":
		in = TenantInput{Type: TenantHandOverFailed, Move: MoveID(number(f[1]))}
	case "hosts":
		in = TenantInput{Type: TenantHosts}
		for _, k := range f[1:] {
			if k == "draining" {
				in.Draining = true
			} else {
				in.Kinds = append(in.Kinds, k)
			}
		}
	case "suspended":
		in = TenantInput{Type: TenantSuspended}
	case "close":
		in = TenantInput{Type: TenantClose, Force: len(f) > 1}
	case "snapshot":
		s.table = must(ReadSnapshot(s.table.AppendSnapshot(nil)))
		in = TenantInput{Type: TenantAdvanced, Table: s.table}
	case "holds":
		e, ok := s.tenant.Holds(GroupID(number(f[1])), Partition(number(f[2])))
		fmt.Fprintf(out, "%v, epoch %d.%d\n", ok, e.Generation, e.Index)
		return
	case "until":
		fmt.Fprintf(out, "%v, now %v, session %d, closed %v\n", s.tenant.Until(), s.now, s.tenant.Session(), s.tenant.Closed())
		return
	case "log", "unseen":
		s.log = append(s.log, AppendEntry(nil, logged(t, f[1:])))
		if f[0] == "unseen" {
			return
		}
		for _, entry := range s.log {
			for _, r := range must(s.table.Apply(s.table.Index()+1, entry)) {
				fmt.Fprintf(out, "entry %d: ", s.table.Index())
				switch {
				case r.Void != "":
					fmt.Fprintf(out, "void: %s\n", r.Void)
				case r.ID != 0:
					fmt.Fprintf(out, "makes %d\n", r.ID)
				default:
					out.WriteString("ok\n")
				}
			}
		}
		s.log = nil
		in = TenantInput{Type: TenantAdvanced}
	default:
		t.Fatalf("unknown command %q", f[0])
	}
	for _, e := range s.tenant.Step(&in, s.now) {
		out.WriteString(e.describe() + "\n")
	}
}

func logged(t *testing.T, f []string) (c Command) {
	t.Helper()
	set := func(s string) (ps PartitionSet) {
		if s == "all" {
			return everything()
		}
		for p := range strings.SplitSeq(s, ",") {
			ps.Add(Partition(number(p)))
		}
		return ps
	}
	switch f[0] {
	case "open":
		return Command{Type: OpenSession, Node: NodeID(f[1]), Boot: number(f[2]), Authority: "h:1", Kinds: f[3:], Speaks: 1}
	case "renew":
		return Command{Type: RenewSession, Session: SessionID(number(f[1]))}
	case "expire":
		return Command{Type: ExpireSession, Session: SessionID(number(f[1])), Index: number(f[2])}
	case "close":
		return Command{Type: CloseSession, Session: SessionID(number(f[1])), Index: number(f[2])}
	case "update":
		return Command{Type: UpdateSession, Session: SessionID(number(f[1])), Kinds: f[2:]}
	case "group":
		return Command{Type: Regroup, Kinds: f[1:]}
	case "assign":
		return Command{Type: Assign, Group: GroupID(number(f[1])), Session: SessionID(number(f[2])), Partitions: set(f[3])}
	case "move":
		return Command{Type: BeginMove, Group: GroupID(number(f[1])), From: SessionID(number(f[2])), Session: SessionID(number(f[3])),
			Partitions: set(f[4])}
	case "abort":
		return Command{Type: AbortMove, Move: MoveID(number(f[1]))}
	case "release":
		return Command{Type: Release, Session: SessionID(number(f[1])), Group: GroupID(number(f[2])), Move: MoveID(number(f[3])),
			Index: number(f[4]), Partitions: set(f[5]), Manifest: []byte("m")}
	case "settle":
		return Command{Type: SettleMove, Move: MoveID(number(f[1]))}
	case "generation":
		return Command{Type: RaiseGeneration, Generation: uint32(number(f[1]))}
	}
	t.Fatalf("unknown entry %q", f)
	return c
}

func (e *TenantEffect) describe() string {
	part := func() string {
		var ps []string
		for p := range e.Part.Partitions.All {
			ps = append(ps, strconv.Itoa(int(p)))
		}
		return fmt.Sprintf("move %d: %v of group %d, partitions %s", e.Part.Move, e.Part.Kinds, e.Part.Group, strings.Join(ps, ","))
	}
	switch e.Type {
	case Ask, Propose:
		c := e.Commands[0]
		s := "propose: "
		if e.Type == Ask {
			s = fmt.Sprintf("ask %d: ", e.Ask)
		}
		s += c.Type.String()
		if c.Session != 0 {
			s += fmt.Sprintf(" session %d", c.Session)
		}
		if c.Move != 0 {
			s += fmt.Sprintf(" move %d", c.Move)
		}
		if c.Index != 0 {
			s += fmt.Sprintf(" @%d", c.Index)
		}
		if len(c.Kinds) > 0 {
			s += fmt.Sprintf(" %v", c.Kinds)
		}
		if c.Draining {
			s += " draining"
		}
		if len(c.Manifest) > 0 {
			s += fmt.Sprintf(" manifest %s", c.Manifest)
		}
		return s
	case Until:
		return fmt.Sprintf("until %v", e.Until)
	case SessionLost:
		return "session lost"
	case TakeIn:
		return fmt.Sprintf("take in %s under %d.%d, manifest %s", part(), e.Epoch.Generation, e.Epoch.Index, e.Manifest)
	case TurnAway:
		return fmt.Sprintf("turn away move %d", e.Part.Move)
	case TellAssigned:
		return fmt.Sprintf("assignments as of %d, session %d", e.Assignments.Index, e.Session)
	case HandOver:
		return fmt.Sprintf("hand over %s to %s#%d", part(), e.Target.ID, e.Target.Boot)
	case Resume:
		return "resume " + part()
	}
	return "?"
}
