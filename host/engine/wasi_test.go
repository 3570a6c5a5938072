package engine

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// TestWASIHasAllFunctions: names and types are those of wazero's, which are those of the specification.
func TestWASIHasAllFunctions(t *testing.T) {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	ours, theirs := wasiSignatures(), rt.Module(wasiModule).ExportedFunctionDefinitions()
	for name, def := range theirs {
		if ours[name] != signature(def) {
			t.Errorf("%s is %q, want %q", name, ours[name], signature(def))
		}
	}
	if len(ours) != len(theirs) {
		t.Errorf("%d functions, want %d", len(ours), len(theirs))
	}
}

// subscription puts one at a place of i's memory: a clock with its timeout and flags, or a file.
func subscription(i *Instance, at int, userdata uint64, tag byte, id uint32, timeout int64, flags uint16) {
	b, _ := i.mem.Read(uint32(at), subscriptionSize)
	clear(b)
	binary.LittleEndian.PutUint64(b, userdata)
	b[8] = tag
	binary.LittleEndian.PutUint32(b[16:], id)
	binary.LittleEndian.PutUint64(b[24:], uint64(timeout))
	binary.LittleEndian.PutUint16(b[40:], flags)
}

// poll returns the userdata of the events.
func poll(t *testing.T, i *Instance, n uint64) (fired []uint64) {
	t.Helper()
	const out, count = 8192, 16000
	if e := i.wasiPoll([]uint64{0, out, n, count}); e != wasiOK {
		t.Fatalf("error %d", e)
	}
	got, _ := i.mem.ReadUint32Le(count)
	for k := range got {
		u, _ := i.mem.ReadUint64Le(out + k*eventSize)
		fired = append(fired, u)
	}
	return fired
}

func TestWASIPoll(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	i.guard.arm(time.Now().Add(time.Minute))
	hour := int64(time.Hour)
	subscription(i, 0, 1, eventClock, clockMonotonic, hour, 0)
	subscription(i, 48, 2, eventClock, clockMonotonic, int64(time.Millisecond), 0)
	subscription(i, 96, 3, eventClock, clockWall, time.Now().Add(time.Hour).UnixNano(), 1)
	if got := poll(t, i, 3); len(got) != 1 || got[0] != 2 {
		t.Errorf("fired: %v", got)
	}
	subscription(i, 48, 2, eventClock, clockMonotonic, i.env.nanotime()+int64(time.Millisecond), 1)
	if got := poll(t, i, 3); len(got) != 1 || got[0] != 2 {
		t.Errorf("by the hour: %v", got)
	}
	subscription(i, 48, 4, eventFdRead, 0, 0, 0)
	subscription(i, 96, 5, eventFdWrite, 7, 0, 0)
	if got := poll(t, i, 3); len(got) != 2 || got[0] != 4 || got[1] != 5 {
		t.Errorf("files: %v", got)
	}
	for what, p := range map[string][]uint64{"none": {0, 8192, 0, 16000}, "too many": {0, 8192, maxSubscriptions + 1, 16000}} {
		if e := i.wasiPoll(p); e != wasiInvalid {
			t.Errorf("%s: error %d", what, e)
		}
	}
	if e := i.wasiPoll([]uint64{1<<32 - 8, 8192, 1, 16000}); e != wasiFault {
		t.Errorf("outside: error %d", e)
	}
	subscription(i, 0, 1, eventClock, 9, 0, 0)
	if e := i.wasiPoll([]uint64{0, 8192, 1, 16000}); e != wasiInvalid {
		t.Errorf("an unknown clock: error %d", e)
	}
}

func TestWASIFiles(t *testing.T) {
	i := instance(t, "echo.wasm", noHost{}, Options{})
	i.guard.arm(time.Now().Add(time.Minute))
	for _, tt := range []struct {
		name string
		p    []uint64
		want errno
	}{
		{"fd_write", []uint64{1, 0, maxRanges + 1, 64}, wasiInvalid},
		{"fd_write", []uint64{3, 0, 1, 64}, wasiBadFile},
		{"fd_write", []uint64{1, 1<<32 - 4, 1, 64}, wasiFault},
		{"fd_read", []uint64{0, 0, 0, 64}, wasiOK},
		{"fd_read", []uint64{1, 0, 0, 64}, wasiBadFile},
		{"fd_close", []uint64{1}, wasiOK},
		{"fd_write", []uint64{1, 512, 0, 64}, wasiOK}, // it is still open: it is the instance's, which others use again
		{"fd_renumber", []uint64{1, 1<<31 - 1}, wasiNotSup},
		{"fd_prestat_get", []uint64{3, 64}, wasiBadFile},
		{"path_open", []uint64{3, 0, 0, 1<<32 - 1, 0, 0, 0, 0, 64}, wasiBadFile},
		{"fd_fdstat_get", []uint64{0, 64}, wasiOK},
		{"fd_fdstat_set_flags", []uint64{0, 4}, wasiNotSup},
		{"fd_filestat_get", []uint64{2, 1<<32 - 8}, wasiFault},
		{"random_get", []uint64{0, 1<<32 - 1}, wasiFault},
		{"clock_time_get", []uint64{2, 0, 64}, wasiInvalid},
	} {
		if got := wasiFuncs[tt.name].call(i, tt.p); got != tt.want {
			t.Errorf("%s%v: %d, want %d", tt.name, tt.p, got, tt.want)
		}
	}
}
