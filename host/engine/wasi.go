package engine

import (
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// WASI preview 1 is served here and not by wazero, whose functions work for as long as their arguments say: one fd_write of eight million
// empty ranges takes half a second, and costs no fuel, so that a turn of a guest that repeats it ends minutes after its deadline; a
// poll_oneoff makes an object for each subscription; a path_open copies a path of 60 MiB. They also keep files that a guest can close,
// and an instance is used again by other actors. These keep nothing, bound what they are given, and charge for it.

// wasiModule is the namespace.
const wasiModule = "wasi_snapshot_preview1"

// errno is a result of WASI.
type errno uint32

const (
	wasiOK      errno = 0
	wasiBadFile errno = 8
	wasiFault   errno = 21
	wasiInvalid errno = 28
	wasiIO      errno = 29
	wasiNoSys   errno = 52
	wasiNotDir  errno = 54
	wasiNotSock errno = 57
	wasiNotSup  errno = 58
	wasiSeekErr errno = 70
)

// Bounds of one call, as most systems have them.
const (
	maxRanges        = 1024 // of fd_write and fd_read
	maxSubscriptions = 1024 // of poll_oneoff
	wasiCost         = 200  // units of fuel, beside what is read and written: about 0.15 microseconds
)

// wasiFunc is a function of WASI. Parameters are i (i32) and l (i64); the result is an i32, but for proc_exit, which has none.
type wasiFunc struct {
	params string
	call   func(i *Instance, p []uint64) errno
}

// wasiFuncs are all of them.
var wasiFuncs = map[string]wasiFunc{
	"args_get":                {"ii", nothing},
	"args_sizes_get":          {"ii", (*Instance).wasiNoStrings},
	"clock_res_get":           {"ii", (*Instance).wasiResolution},
	"clock_time_get":          {"ili", (*Instance).wasiTime},
	"environ_get":             {"ii", nothing},
	"environ_sizes_get":       {"ii", (*Instance).wasiNoStrings},
	"fd_advise":               {"illi", stdio(wasiSeekErr)},
	"fd_allocate":             {"ill", stdio(wasiNotSup)},
	"fd_close":                {"i", stdio(wasiOK)},
	"fd_datasync":             {"i", stdio(wasiOK)},
	"fd_fdstat_get":           {"ii", (*Instance).wasiFdstat},
	"fd_fdstat_set_flags":     {"ii", wasiSetFlags},
	"fd_fdstat_set_rights":    {"ill", stdio(wasiOK)},
	"fd_filestat_get":         {"ii", (*Instance).wasiFilestat},
	"fd_filestat_set_size":    {"il", stdio(wasiInvalid)},
	"fd_filestat_set_times":   {"illi", stdio(wasiNotSup)},
	"fd_pread":                {"iiili", stdio(wasiSeekErr)},
	"fd_prestat_dir_name":     {"iii", stdio(wasiBadFile)},
	"fd_prestat_get":          {"ii", stdio(wasiBadFile)},
	"fd_pwrite":               {"iiili", stdio(wasiSeekErr)},
	"fd_read":                 {"iiii", (*Instance).wasiRead},
	"fd_readdir":              {"iiili", stdio(wasiNotDir)},
	"fd_renumber":             {"ii", stdio(wasiNotSup)},
	"fd_seek":                 {"ilii", stdio(wasiSeekErr)},
	"fd_sync":                 {"i", stdio(wasiOK)},
	"fd_tell":                 {"ii", stdio(wasiSeekErr)},
	"fd_write":                {"iiii", (*Instance).wasiWrite},
	"path_create_directory":   {"iii", stdio(wasiNotDir)},
	"path_filestat_get":       {"iiiii", stdio(wasiNotDir)},
	"path_filestat_set_times": {"iiiilli", stdio(wasiNotDir)},
	"path_link":               {"iiiiiii", stdio(wasiNotDir)},
	"path_open":               {"iiiiillii", stdio(wasiNotDir)},
	"path_readlink":           {"iiiiii", stdio(wasiNotDir)},
	"path_remove_directory":   {"iii", stdio(wasiNotDir)},
	"path_rename":             {"iiiiii", stdio(wasiNotDir)},
	"path_symlink":            {"iiiii", func(*Instance, []uint64) errno { return wasiBadFile }},
	"path_unlink_file":        {"iii", stdio(wasiNotDir)},
	"poll_oneoff":             {"iiii", (*Instance).wasiPoll},
	"proc_exit":               {"i", func(_ *Instance, p []uint64) errno { panic(sys.NewExitError(uint32(p[0]))) }},
	"proc_raise":              {"i", func(*Instance, []uint64) errno { return wasiNoSys }},
	"random_get":              {"ii", (*Instance).wasiRandom},
	"sched_yield":             {"", func(i *Instance, _ []uint64) errno { i.guard.yield(); return wasiOK }},
	"sock_accept":             {"iii", stdio(wasiNotSock)},
	"sock_recv":               {"iiiiii", stdio(wasiNotSock)},
	"sock_send":               {"iiiii", stdio(wasiNotSock)},
	"sock_shutdown":           {"ii", stdio(wasiNotSock)},
}

// nothing has no strings to give.
func nothing(*Instance, []uint64) errno { return wasiOK }

// stdio is a function of which the first parameter is a file, which answers that for stdin, stdout and stderr: there are no others.
func stdio(answer errno) func(*Instance, []uint64) errno {
	return func(_ *Instance, p []uint64) errno {
		if uint32(p[0]) > 2 {
			return wasiBadFile
		}
		return answer
	}
}

// types returns the types of a function's parameters and results.
func (f wasiFunc) types(name string) (params, results []api.ValueType) {
	for _, p := range f.params {
		if p == 'l' {
			params = append(params, api.ValueTypeI64)
		} else {
			params = append(params, api.ValueTypeI32)
		}
	}
	if name != "proc_exit" {
		results = []api.ValueType{api.ValueTypeI32}
	}
	return params, results
}

// wasiSignatures are the types of all functions by name, as [signature] writes them.
func wasiSignatures() map[string]string {
	out := make(map[string]string, len(wasiFuncs))
	for name, f := range wasiFuncs {
		list := strings.Split(strings.NewReplacer("i", "i32,", "l", "i64,").Replace(f.params), ",")
		out[name] = "(" + strings.Join(list[:len(list)-1], ", ") + ")"
		if name != "proc_exit" {
			out[name] += " -> (i32)"
		}
	}
	return out
}

// provideWASI puts every function of WASI into a runtime.
func provideWASI(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(wasiModule)
	for name, f := range wasiFuncs {
		call := f.call
		params, results := f.types(name)
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, _ api.Module, stack []uint64) {
			i := instanceOf(ctx)
			i.guard.hostCall(wasiCost)
			result := call(i, stack)
			if len(stack) > 0 {
				stack[0] = uint64(result)
			}
		}), params, results).Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// span returns n bytes of guest memory at ptr, and charges for them; nil with false is a fault.
func (i *Instance) span(ptr, n uint32) ([]byte, bool) {
	i.guard.charge(int(n) / 8)
	return i.mem.Read(ptr, n)
}

func (i *Instance) wasiNoStrings(p []uint64) errno {
	if !i.mem.WriteUint32Le(uint32(p[0]), 0) || !i.mem.WriteUint32Le(uint32(p[1]), 0) {
		return wasiFault
	}
	return wasiOK
}

// The clocks that there are.
const (
	clockWall      = 0
	clockMonotonic = 1
)

func (i *Instance) clock(id uint32) (int64, bool) {
	switch id {
	case clockWall:
		sec, nsec := i.env.walltime()
		return sec*1e9 + int64(nsec), true
	case clockMonotonic:
		return i.env.nanotime(), true
	}
	return 0, false
}

func (i *Instance) wasiTime(p []uint64) errno {
	t, ok := i.clock(uint32(p[0]))
	switch {
	case !ok:
		return wasiInvalid
	case !i.mem.WriteUint64Le(uint32(p[2]), uint64(t)):
		return wasiFault
	}
	return wasiOK
}

func (i *Instance) wasiResolution(p []uint64) errno {
	switch {
	case uint32(p[0]) > clockMonotonic:
		return wasiInvalid
	case !i.mem.WriteUint64Le(uint32(p[1]), uint64(time.Microsecond)):
		return wasiFault
	}
	return wasiOK
}

// Rights as fd_fdstat_get tells them: to read, write, stat, poll and set flags, not to seek or tell.
const stdioRights = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<6 | 1<<7 | 1<<8 | 1<<21 | 1<<22 | 1<<23 | 1<<27

const charDevice = 2 // a type of file: it has no place to seek

func (i *Instance) wasiFdstat(p []uint64) errno {
	b, ok := i.span(uint32(p[1]), 24)
	switch {
	case !ok:
		return wasiFault
	case uint32(p[0]) > 2:
		return wasiBadFile
	}
	clear(b)
	b[0] = charDevice
	binary.LittleEndian.PutUint64(b[8:], stdioRights)
	return wasiOK
}

// wasiSetFlags accepts all but that a file should not block (flag 4).
func wasiSetFlags(_ *Instance, p []uint64) errno {
	switch {
	case uint32(p[0]) > 2:
		return wasiBadFile
	case p[1]&4 != 0:
		return wasiNotSup
	}
	return wasiOK
}

func (i *Instance) wasiFilestat(p []uint64) errno {
	b, ok := i.span(uint32(p[1]), 64)
	switch {
	case !ok:
		return wasiFault
	case uint32(p[0]) > 2:
		return wasiBadFile
	}
	clear(b)
	b[16], b[24] = charDevice, 1 // one link
	return wasiOK
}

// wasiRead serves stdin, which is at its end.
func (i *Instance) wasiRead(p []uint64) errno {
	switch {
	case uint32(p[0]) > 2:
		return wasiBadFile
	case uint32(p[0]) != 0:
		return wasiBadFile // not to be read
	case uint32(p[2]) > maxRanges:
		return wasiInvalid
	case !i.mem.WriteUint32Le(uint32(p[3]), 0):
		return wasiFault
	}
	return wasiOK
}

// wasiWrite serves stdout and stderr.
func (i *Instance) wasiWrite(p []uint64) errno {
	w := &i.console.stdout
	switch uint32(p[0]) {
	case 1:
	case 2:
		w = &i.console.stderr
	default:
		return wasiBadFile
	}
	if uint32(p[2]) > maxRanges {
		return wasiInvalid
	}
	ranges, ok := i.span(uint32(p[1]), 8*uint32(p[2]))
	total := uint32(0)
	for ; ok && len(ranges) > 0; ranges = ranges[8:] {
		var b []byte
		if b, ok = i.span(binary.LittleEndian.Uint32(ranges), binary.LittleEndian.Uint32(ranges[4:])); ok {
			if _, err := w.Write(b); err != nil {
				return wasiIO // the guest's next look at its fuel ends it
			}
			total += uint32(len(b))
		}
	}
	if !ok || !i.mem.WriteUint32Le(uint32(p[3]), total) {
		return wasiFault
	}
	return wasiOK
}

func (i *Instance) wasiRandom(p []uint64) errno {
	b, ok := i.span(uint32(p[0]), uint32(p[1]))
	if !ok {
		return wasiFault
	}
	if _, err := i.env.Read(b); err != nil {
		return wasiIO
	}
	return wasiOK
}

// Of poll_oneoff: the sizes of its records, and what can be waited for.
const (
	subscriptionSize = 48
	eventSize        = 32

	eventClock   = 0
	eventFdRead  = 1
	eventFdWrite = 2
)

// wasiPoll sleeps until the first of the clocks has come to its time. Files never have to be waited for.
func (i *Instance) wasiPoll(p []uint64) errno {
	n := uint32(p[2])
	if n == 0 || n > maxSubscriptions {
		return wasiInvalid
	}
	in, ok := i.span(uint32(p[0]), n*subscriptionSize)
	out, fits := i.span(uint32(p[1]), n*eventSize)
	if !ok || !fits {
		return wasiFault
	}
	files := false
	sleep := int64(1<<63 - 1)
	for s := in; len(s) > 0; s = s[subscriptionSize:] {
		switch s[8] {
		case eventClock:
			d, code := i.untilClock(s[16:])
			if code != wasiOK {
				return code
			}
			sleep = min(sleep, d)
		case eventFdRead, eventFdWrite:
			files = true
		default:
			return wasiInvalid
		}
	}
	if files {
		sleep = 0
	}
	i.env.nanosleep(sleep)
	// The events are made before they are written: the guest may have put both lists into one place.
	events := make([]byte, 0, 4*eventSize)
	for s := in; len(s) > 0; s = s[subscriptionSize:] {
		var e [eventSize]byte
		copy(e[:8], s)
		e[10] = s[8]
		if s[8] == eventClock {
			if !i.fired(s[16:], sleep) {
				continue
			}
		} else if binary.LittleEndian.Uint32(s[16:]) > 2 {
			e[8] = byte(wasiBadFile)
		}
		events = append(events, e[:]...)
	}
	copy(out, events)
	if !i.mem.WriteUint32Le(uint32(p[3]), uint32(len(events)/eventSize)) {
		return wasiFault
	}
	return wasiOK
}

// untilClock returns how many nanoseconds a subscription of a clock waits: for a time of that clock (flag 1), or so long from now.
func (i *Instance) untilClock(s []byte) (int64, errno) {
	timeout := binary.LittleEndian.Uint64(s[8:])
	now, ok := i.clock(binary.LittleEndian.Uint32(s))
	switch flags := binary.LittleEndian.Uint16(s[24:]); {
	case flags > 1 || !ok:
		return 0, wasiInvalid
	case flags == 1:
		return max(int64(min(timeout, 1<<63-1))-now, 0), wasiOK
	}
	return int64(min(timeout, 1<<63-1)), wasiOK
}

// fired reports whether the time of a subscription has come, after so many nanoseconds of sleep.
func (i *Instance) fired(s []byte, slept int64) bool {
	d, _ := i.untilClock(s)
	if binary.LittleEndian.Uint16(s[24:]) == 1 {
		return d <= 0
	}
	return d <= slept
}
