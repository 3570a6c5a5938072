package host

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// unknownMemory is assumed where neither a cgroup nor /proc tells, as on other systems than Linux.
const unknownMemory = 8 << 30

// MachineMemory returns the bytes of memory that this process can count on: what the machine has, or the lowest limit of the
// cgroups that the process is in, itself and those above (v2 or v1). known is false where the system does not tell.
func MachineMemory() (n uint64, known bool) { return memoryOf(os.DirFS("/")) }

// machineMemory is [MachineMemory], or a guess.
func machineMemory() uint64 {
	if n, known := MachineMemory(); known {
		return n
	}
	return unknownMemory
}

// memoryOf reads a system whose root directory is root.
func memoryOf(root fs.FS) (n uint64, known bool) {
	lower := func(limit uint64, ok bool) {
		if ok && limit > 0 && (!known || limit < n) {
			n, known = limit, true
		}
	}
	lower(totalMemory(root))
	eachGroup(root, func(h hierarchy, dir string) {
		for _, file := range h.files {
			lower(number(root, path.Join(dir, file)))
		}
	})
	return n, known
}

// eachGroup calls f with the directory of every cgroup that this process is in and of those above, where memory is bounded.
func eachGroup(root fs.FS, f func(h hierarchy, dir string)) {
	found := false
	self, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(self)) { // HIERARCHY:CONTROLLERS:PATH
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, h := range hierarchies {
			if h.holds(parts[0], parts[1]) {
				found = true
				h.each(parts[2], f)
			}
		}
	}
	if !found { // /proc is not mounted, perhaps: what is mounted is the container's own
		for _, h := range hierarchies {
			h.each("/", f)
		}
	}
}

// hierarchy is a tree of cgroups, and where it is mounted by custom.
type hierarchy struct {
	v1     bool
	mounts []string
	files  []string // with limits
	usage  string   // the file with what is used
	cached []string // of memory.stat, what of that can be had back
}

// memory.high is no limit to die by, but a process beyond it is slowed until it is of no use.
var hierarchies = []hierarchy{
	{mounts: []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}, files: []string{"memory.max", "memory.high"},
		usage: "memory.current", cached: []string{"inactive_file", "active_file"}},
	{v1: true, mounts: []string{"sys/fs/cgroup/memory"}, files: []string{"memory.limit_in_bytes"},
		usage: "memory.usage_in_bytes", cached: []string{"total_inactive_file", "total_active_file"}},
}

// holds reports whether a line of /proc/self/cgroup is of this hierarchy.
func (h hierarchy) holds(id, controllers string) bool {
	if !h.v1 {
		return id == "0" && controllers == ""
	}
	for c := range strings.SplitSeq(controllers, ",") {
		if c == "memory" {
			return true
		}
	}
	return false
}

// each calls f with the directory of a group and of those above it. A path that is not there is that of a host whose tree is not
// mounted in this container; what is mounted then is the container's own group, at the root.
func (h hierarchy) each(group string, f func(h hierarchy, dir string)) {
	for _, mount := range h.mounts {
		for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
			f(h, path.Join(mount, dir))
			if dir == "/" {
				break
			}
		}
	}
}

// number reads a file that holds one; "max" is none.
func number(root fs.FS, name string) (uint64, bool) {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

// totalMemory is what the machine has.
func totalMemory(root fs.FS) (uint64, bool) {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}
