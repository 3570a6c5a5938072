package verdict

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"github.com/wasilo/wasilo/host/turnlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHistories holds hand-made histories and turn logs against the checkers: good ones, and each way to be bad. The files say how
// they are written.
func TestHistories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "registers":
				return registers(t, d)
			case "turns":
				return turns(t, d)
			}
			t.Fatalf("%s: no %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

func registers(t *testing.T, d *datadriven.TestData) string {
	opt := Options{Ordered: !d.HasArg("unordered"), Grace: 10, Hibernates: func(a string) bool { return strings.HasPrefix(a, "h/") }}
	var ops []Op
	for line := range strings.Lines(d.Input) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "fault "); ok {
			var s Span
			if _, err := fmt.Sscanf(rest, "%d-%d %s", &s.From, &s.To, &s.What); err != nil {
				t.Fatalf("%s: %q: %v", d.Pos, line, err)
			}
			s.Violent = s.What != "planned"
			opt.Faults = append(opt.Faults, s)
			continue
		}
		ops = append(ops, parseOp(t, line))
	}
	r := Registers(ops, opt)
	var b strings.Builder
	fmt.Fprintf(&b, "%d ok (%d during faults), %d refused, %d unknown; %d actors, %d epochs\n", r.OK, r.During, r.Refused, r.Unknown,
		r.Actors, r.Epochs)
	if r.Moves+r.Lost > 0 {
		fmt.Fprintf(&b, "planned: %d of %d kept; lost by faults: %d\n", r.Kept, r.Moves, r.Lost)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "VIOLATION of %q: %s: %s\n", v.Check, v.Actor, v.Text)
	}
	return b.String()
}

func parseOp(t *testing.T, line string) (o Op) {
	t.Helper()
	asked, answered, ok := strings.Cut(line, " => ")
	a, b := strings.Fields(asked), strings.Fields(answered)
	if !ok || len(a) < 4 || len(b) == 0 {
		t.Fatalf("%q is no request", line)
	}
	scan := func(text, format string, args ...any) {
		t.Helper()
		if _, err := fmt.Sscanf(text, format, args...); err != nil {
			t.Fatalf("%q: %q: %v", line, text, err)
		}
	}
	scan(a[0], "%d-%d", &o.Call, &o.Return)
	o.Gateway, o.Actor, o.Do = a[1], a[2], a[3]
	switch o.Do {
	case Write:
		o.New = a[4]
	case Cas:
		o.Old, o.New = a[4], a[5]
	}
	switch b[0] {
	case Refused, Unknown, Failed:
		o.Outcome, o.Code = b[0], strings.Join(b[1:], " ")
	default: // VALUE EPOCH#N [began=VALUE]
		o.Outcome, o.Value = OK, strings.Trim(b[0], "-")
		scan(b[1], "e%d#%d", &o.Index, &o.N)
		if len(b) > 2 {
			o.Began = strings.TrimPrefix(b[2], "began=")
		}
	}
	return o
}

func turns(t *testing.T, d *datadriven.TestData) string {
	byNode := make(map[string][]turnlog.Record)
	var nodes []string
	for line := range strings.Lines(d.Input) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var r turnlog.Record
		f := strings.Fields(line)
		if _, err := fmt.Sscanf(f[0], "%d", &r.At); err != nil || len(f) != 3 && len(f) != 5 {
			t.Fatalf("%s: %q is no record", d.Pos, line)
		}
		r.Node, r.What = f[1], f[2]
		if len(f) == 5 {
			r.Actor = f[3]
			if _, err := fmt.Sscanf(f[4], "e%d#%d", &r.Index, &r.Activation); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
		if byNode[r.Node] == nil {
			nodes = append(nodes, r.Node)
		}
		byNode[r.Node] = append(byNode[r.Node], r)
	}
	var logs [][]turnlog.Record
	for _, n := range nodes {
		logs = append(logs, byNode[n])
	}
	r := Turns(logs, !d.HasArg("unordered"))
	var b strings.Builder
	fmt.Fprintf(&b, "%d records, %d activations; %d live twice\n", r.Records, r.Activations, r.Double)
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "VIOLATION of %q: %s: %s\n", v.Check, v.Actor, v.Text)
	}
	return b.String()
}

// A history that is written is the same when it is read, and one that was cut off is read as far as it goes.
func TestLines(t *testing.T) {
	ops := []Op{{Client: 1, Request: 2, Gateway: "n1", Actor: "register/a", Do: Cas, Old: "a", New: "b", Call: 5, Return: 9, Outcome: OK,
		Value: "b", Generation: 1, Index: 7, N: 3, Began: "x"}, {Do: Read, Outcome: Refused, Code: "no_quorum", Error: "why"}}
	var b bytes.Buffer
	if err := WriteLines(&b, ops); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLines[Op](bytes.NewReader(b.Bytes()))
	if err != nil || !reflect.DeepEqual(got, ops) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := ReadLines[Op](bytes.NewReader(b.Bytes()[:b.Len()-1])); err != nil || len(got) != 1 {
		t.Errorf("cut off: %+v %v", got, err)
	}
	for _, bad := range []string{"{\n", `{"nonsense":1}` + "\n"} {
		if _, err := ReadLines[Op](strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestHomes(t *testing.T) {
	rec := func(at int64, node, what, actor string) turnlog.Record {
		return turnlog.Record{At: at, Node: node, What: what, Actor: actor}
	}
	logs := [][]turnlog.Record{
		{rec(1, "n1", turnlog.Enabled, "a"), rec(2, "n1", turnlog.Enabled, "b"), rec(9, "n1", turnlog.Checked, "a")},
		{rec(0, "n2", turnlog.Opened, ""), rec(5, "n2", turnlog.Enabled, "a"), rec(6, "n2", turnlog.Enabled, "c")},
	}
	for at, want := range map[int64]map[string]string{
		1:  {},
		3:  {"a": "n1", "b": "n1"},
		6:  {"a": "n2", "b": "n1"},
		10: {"a": "n1", "b": "n1", "c": "n2"},
	} {
		if got := Homes(logs, at); !reflect.DeepEqual(got, want) {
			t.Errorf("at %d: %v, want %v", at, got, want)
		}
	}
}

// Many requests with an unknown outcome make the search for an order no longer.
func TestManyUnknown(t *testing.T) {
	var ops []Op
	for i := range 200 {
		ops = append(ops, Op{Actor: "v/a", Do: Write, New: fmt.Sprint("u", i), Call: int64(i), Return: int64(i + 1), Outcome: Unknown})
	}
	ops = append(ops, Op{Actor: "v/a", Do: Read, Call: 500, Return: 501, Outcome: OK, Value: "u77", Index: 1, N: 1})
	done := make(chan *Result, 1)
	go func() { done <- Registers(ops, Options{Ordered: true, Hibernates: func(string) bool { return false }}) }()
	select {
	case r := <-done:
		if len(r.Violations) > 0 {
			t.Errorf("%+v", r.Violations)
		}
	case <-time.After(2 * time.Minute): // every order of 200 would take for ever
		t.Fatal("the search does not end")
	}
}

// A double life counts for the fault before it, unless there is another at the time.
func TestSettled(t *testing.T) {
	faults := []Span{{From: 100, To: 200}, {From: 400, To: 500}}
	for _, c := range []struct {
		ends []int64
		want time.Duration
	}{{nil, 0}, {[]int64{50}, 0}, {[]int64{150, 200}, 0}, {[]int64{210, 260}, 60}, {[]int64{450}, 0}, {[]int64{390, 503}, 190}, {[]int64{503}, 3}} {
		if got := (&TurnResult{Ends: c.ends}).Settled(faults); got != c.want {
			t.Errorf("%v: %v, want %v", c.ends, got, c.want)
		}
	}
}
