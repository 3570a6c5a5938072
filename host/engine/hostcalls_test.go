package engine

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wasilo/wasilo/abi"
)

// Operations of hostcalls.wat.
const (
	opRequest = iota
	opStart
	opWait
	opTake
	opKVGet
	opKVRange
	opNow
	opRandom
	opLog
)

const (
	opWrite      = 20
	opPoll       = 21
	opRandomGet  = 22
	opClock      = 23
	opGrow       = 30
	scratch      = 32768 // where results of the guest's host calls land
	scratchSize  = 1024
	payloadPlace = 65536
)

type record struct {
	op         uint32
	a, b, c, d int64
}

// data is the address of what follows n records in a script.
func data(n int) int64 { return int64(payloadPlace + 4 + 24*n) }

// script is an event that makes hostcalls.wat call the host. A b of -1 stands for the length of the data.
func script(t testing.TB, data []byte, records ...record) *abi.Event {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(records)))
	for _, r := range records {
		if r.b == -1 {
			r.b = int64(len(data))
		}
		for _, v := range []uint32{r.op, uint32(r.a), uint32(r.b), uint32(r.c)} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(r.d))
	}
	return call("run", append(b, data...))
}

// results are what n records of a script gave.
func results(out *abi.Output, n int) []int64 {
	rs := make([]int64, n)
	for i := range rs {
		rs[i] = int64(binary.LittleEndian.Uint64(out.Payload[8*i:]))
	}
	return rs
}

// scratched is what a script of n records left at scratch.
func scratched(out *abi.Output, n int) []byte { return out.Payload[8*n:] }

func request(t testing.TB, target, method string, payload []byte) []byte {
	t.Helper()
	return abi.AppendRequest(nil, &abi.Request{Target: identity(t, target), Method: method, Payload: payload, Timeout: time.Second})
}

// bookHost answers what it is told to and notes what it is asked.
type bookHost struct {
	result   abi.Result
	requests []*abi.Request
	started  map[uint32]abi.Result // a nil payload and error: not ready
	next     uint32
	refuse   abi.Code
	waits    [][]uint32
	needs    []int
	times    []time.Duration
	logs     []string
}

func (h *bookHost) Request(q *abi.Request) abi.Result {
	h.requests = append(h.requests, q)
	return h.result
}

func (h *bookHost) Start(q *abi.Request) (uint32, abi.Code) {
	h.requests = append(h.requests, q)
	if h.refuse != abi.ErrNone {
		return 0, h.refuse
	}
	h.next++
	return h.next, abi.ErrNone
}

func (h *bookHost) Wait(handles []uint32, need int, d time.Duration) (int, abi.Code) {
	h.waits, h.needs, h.times = append(h.waits, slices.Clone(handles)), append(h.needs, need), append(h.times, d)
	done := 0
	for _, n := range handles {
		r, ok := h.started[n]
		if !ok {
			return 0, abi.ErrInvalidArgument
		}
		if r.Payload != nil || r.Err != nil {
			done++
		}
	}
	return done, abi.ErrNone
}

func (h *bookHost) Take(n uint32) (abi.Result, bool, abi.Code) {
	r, ok := h.started[n]
	if !ok {
		return abi.Result{}, false, abi.ErrInvalidArgument
	}
	if r.Payload == nil && r.Err == nil {
		return abi.Result{}, false, abi.ErrNone
	}
	delete(h.started, n)
	return r, true, abi.ErrNone
}

func (h *bookHost) Log(level slog.Level, msg string) {
	h.logs = append(h.logs, level.String()+" "+msg)
}

func run(t *testing.T, i *Instance, data []byte, records ...record) *abi.Output {
	t.Helper()
	out, err := turn(i, script(t, data, records...))
	if err != nil {
		t.Fatal(err)
	}
	if out.Kind != abi.OutReply {
		t.Fatalf("%+v", out)
	}
	return out
}

func want(t *testing.T, got []int64, want ...int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

const (
	invalid     = -int64(abi.ErrInvalidArgument)
	unsupported = -int64(abi.ErrUnsupported)
	tooBig      = -int64(abi.ErrPayloadTooLarge)
	pendingNow  = -int64(abi.PendingCode)
)

func TestRequest(t *testing.T) {
	h := &bookHost{result: abi.Result{Payload: []byte("hello")}}
	i := instance(t, "hostcalls.wasm", h, Options{})
	q := request(t, "counter/a", "add", []byte{1, 2, 3})
	out := run(t, i, q,
		record{opRequest, data(4), -1, scratch, 6}, // fits to the byte
		record{opTake, 0, scratch, 100, 0},         // nothing waits
		record{opRequest, data(4), -1, scratch, 5}, // one byte short: it waits
		record{opTake, 0, scratch + 100, 100, 0})   // and is taken
	want(t, results(out, 4), 6, invalid, 6, 6)
	if s := scratched(out, 4); string(s[:6]) != "\x00hello" || string(s[100:106]) != "\x00hello" {
		t.Errorf("%q", s[:110])
	}
	if len(h.requests) != 2 {
		t.Fatalf("%d requests", len(h.requests))
	}
	got := h.requests[0]
	if got.Target.Key() != "counter/a" || got.Method != "add" || string(got.Payload) != "\x01\x02\x03" || got.Timeout != time.Second {
		t.Errorf("%+v", got)
	}
}

func TestRequestError(t *testing.T) {
	h := &bookHost{result: abi.Result{Err: abi.NewActorError("broke", "no money")}}
	i := instance(t, "hostcalls.wasm", h, Options{})
	out := run(t, i, request(t, "bank/a", "withdraw", nil),
		record{opRequest, data(2), -1, scratch, 2}, // too small: nothing is written
		record{opTake, 0, scratch + 16, 100, 0})
	r := results(out, 2)
	if r[0] <= 2 || r[0] != r[1] {
		t.Fatalf("%v", r)
	}
	s := scratched(out, 2)
	if s[0] != 0 {
		t.Error("written though it did not fit")
	}
	res, err := abi.DecodeResult(s[16 : 16+r[1]])
	if err != nil || res.Err == nil || res.Err.App != "broke" || res.Err.Message != "no money" {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestOutcomeEndsWithItsTurn(t *testing.T) {
	h := &bookHost{result: abi.Result{Payload: []byte("hello")}}
	i := instance(t, "hostcalls.wasm", h, Options{})
	q := request(t, "counter/a", "add", nil)
	want(t, results(run(t, i, q, record{opRequest, data(1), -1, 0, 0}), 1), 6)
	want(t, results(run(t, i, nil, record{opTake, 0, scratch, 100, 0}), 1), invalid)
}

func TestMalformedRequests(t *testing.T) {
	h := &bookHost{}
	m := mustLoad(t, newEngine(t, Config{MaxMessage: 2000}), "hostcalls.wasm")
	i := instantiate(t, m, h, Options{})
	for _, b := range [][]byte{nil, []byte("rubbish"), {0xa0}, {0xa1, 0x01, 0x61, 'x'}} {
		want(t, results(run(t, i, b, record{opRequest, data(2), -1, scratch, 9}, record{opStart, data(2), -1, 0, 0}), 2), invalid, invalid)
	}
	big := request(t, "a/b", "c", make([]byte, 2001))
	want(t, results(run(t, i, big, record{opRequest, data(2), -1, scratch, 9}, record{opStart, data(2), -1, 0, 0}), 2), tooBig, tooBig)
	// A range far over the limit is not even decoded.
	want(t, results(run(t, i, nil, record{opRequest, 0, 40000, scratch, 9}), 1), tooBig)
	if len(h.requests) != 0 {
		t.Errorf("%d requests", len(h.requests))
	}
}

func TestParallelRequests(t *testing.T) {
	h := &bookHost{started: map[uint32]abi.Result{1: {Payload: []byte("one")}, 2: {}, 7: {Payload: []byte("seven")}}}
	i := instance(t, "hostcalls.wasm", h, Options{})
	q := request(t, "counter/a", "add", nil)
	want(t, results(run(t, i, q, record{opStart, data(2), -1, 0, 0}, record{opStart, data(2), -1, 0, 0}), 2), 1, 2)

	handles := []byte{1, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0}
	out := run(t, i, handles,
		record{opWait, data(7), 3, 1, -1},
		record{opTake, 1, scratch, 3, 0},   // too small: kept
		record{opWait, data(7), 3, 2, 50},  // counts the kept one, which the host has forgotten
		record{opTake, 1, scratch, 100, 0}, // now it fits
		record{opTake, 1, scratch, 100, 0}, // and is gone
		record{opTake, 2, scratch, 100, 0}, // not ready
		record{opTake, 7, scratch + 100, 100, 0})
	want(t, results(out, 7), 2, 4, 2, 4, invalid, pendingNow, 6)
	if s := scratched(out, 7); string(s[:4]) != "\x00one" || string(s[100:106]) != "\x00seven" {
		t.Errorf("%q", s[:110])
	}
	if !slices.Equal(h.waits[0], []uint32{1, 2, 7}) || h.needs[0] != 1 || h.times[0] >= 0 {
		t.Errorf("the first wait: %v, %d, %v", h.waits[0], h.needs[0], h.times[0])
	}
	if !slices.Equal(h.waits[1], []uint32{2, 7}) || h.needs[1] != 1 || h.times[1] != 50*time.Millisecond {
		t.Errorf("the second wait: %v, %d, %v", h.waits[1], h.needs[1], h.times[1])
	}
}

func TestWaitArguments(t *testing.T) {
	h := &bookHost{started: map[uint32]abi.Result{}, refuse: abi.ErrLimitExceeded}
	i := instance(t, "hostcalls.wasm", h, Options{})
	handles := []byte{1, 0, 0, 0}
	out := run(t, i, handles,
		record{opWait, data(5), 1, 2, 0},           // needs more than there are
		record{opWait, data(5), maxWait + 1, 1, 0}, // too many
		record{opWait, data(5), 0, 0, 0},           // none
		record{opWait, data(5), 1, 1, 1 << 62},     // unknown to the host
		record{opStart, data(5), 0, 0, 0})          // malformed
	want(t, results(out, 5), invalid, invalid, 0, invalid, invalid)
	if h.times[0] != time.Hour {
		t.Errorf("a long wait became %v", h.times[0])
	}
	want(t, results(run(t, i, request(t, "a/b", "c", nil), record{opStart, data(1), -1, 0, 0}), 1), -int64(abi.ErrLimitExceeded))
}

func TestKeptOutcomesEndWithTheirTurn(t *testing.T) {
	h := &bookHost{started: map[uint32]abi.Result{1: {Payload: []byte("one")}}}
	i := instance(t, "hostcalls.wasm", h, Options{})
	want(t, results(run(t, i, nil, record{opTake, 1, 0, 0, 0}), 1), 4)
	want(t, results(run(t, i, nil, record{opTake, 1, scratch, 100, 0}), 1), invalid)
}

func TestSmallImports(t *testing.T) {
	h := &bookHost{}
	i := instance(t, "hostcalls.wasm", h, Options{})
	before := time.Now()
	out := run(t, i, []byte("a line\xff"),
		record{opNow, 0, 0, 0, 0},
		record{opRandom, scratch, 32, 0, 0},
		record{opKVGet, 0, 0, 0, 0},
		record{opKVRange, 0, 0, 0, 0},
		record{opLog, 0, data(10), 6, 0},
		record{opLog, 1, data(10), 7, 0},
		record{opLog, 2, data(10), 0, 0},
		record{opLog, 99, data(10), 6, 0},
		record{opRandomGet, scratch + 32, 32, 0, 0},
		record{opClock, 0, scratch + 64, 0, 0})
	r := results(out, 10)
	if d := time.Unix(0, r[0]).Sub(before); d.Abs() > time.Minute { // the wall clock may be set meanwhile
		t.Errorf("now is off by %v", d)
	}
	want(t, r[1:4], 0, unsupported, unsupported)
	s := scratched(out, 10)
	if slices.Equal(s[:32], make([]byte, 32)) || slices.Equal(s[32:64], make([]byte, 32)) || slices.Equal(s[:32], s[32:64]) {
		t.Error("no random bytes")
	}
	if d := time.Unix(0, int64(binary.LittleEndian.Uint64(s[64:]))).Sub(before); d.Abs() > time.Minute {
		t.Errorf("the WASI clock is off by %v", d)
	}
	if want := []string{"DEBUG a line", "INFO a line\uFFFD", "WARN ", "ERROR a line"}; !slices.Equal(h.logs, want) {
		t.Errorf("%q", h.logs)
	}
}

func TestBadPointersTrap(t *testing.T) {
	m := mustLoad(t, newEngine(t, Config{}), "hostcalls.wasm")
	const end = 4 * pageSize
	for _, tt := range []struct {
		name string
		r    record
	}{
		{"request", record{opRequest, end - 1, 2, 0, 0}},
		{"request", record{opRequest, 0, 0, 0xffffffff, 0xffffffff}},
		{"start", record{opStart, 0xfffffff0, 0x7fffffff, 0, 0}},
		{"wait", record{opWait, end - 3, 1, 1, 0}},
		{"take", record{opTake, 0, end, 1, 0}},
		{"random", record{opRandom, end, 1, 0, 0}},
		{"log", record{opLog, 1, end, 1, 0}},
	} {
		i := instantiate(t, m, &bookHost{}, Options{})
		_, err := turn(i, script(t, nil, tt.r))
		if abi.CodeOf(err) != abi.ErrTrap || !strings.Contains(err.Error(), "wasilo_1."+tt.name+" is given the range 0x") {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

// TestEmptyRangesMayPointAnywhere: languages have dangling pointers for empty slices.
func TestEmptyRangesMayPointAnywhere(t *testing.T) {
	i := instance(t, "hostcalls.wasm", &bookHost{}, Options{})
	want(t, results(run(t, i, nil, record{opRandom, 0xffffffff, 0, 0, 0}, record{opRequest, 0xffffffff, 0, 0xffffffff, 0}), 2), 0, invalid)
}
