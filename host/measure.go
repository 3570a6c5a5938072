package host

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
)

// sleepersInHeap: where package sleep has no memory of its own.
const sleepersInHeap = runtime.GOOS != "linux"

// measureProcess asks the Go runtime and the kernel what this process has. It takes some 50 microseconds.
func measureProcess() measure {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	v := make([]int64, len(samples))
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			v[i] = int64(s.Value.Uint64())
		}
	}
	m := measure{goLive: min(v[0], v[1]) + v[2], goMapped: v[3] - v[4]}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		m.resident = residentOf(b)
	}
	return m
}

// residentOf reads from /proc/PID/status what is backed by no file; 0 is not known. The images of templates are files in memory, of which the
// kernel counts a page as often as it is mapped: 460 actors that share 4 MiB were 340 MiB.
func residentOf(status []byte) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			kib, err := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))), 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// groupOf returns the limit of the cgroup that has least left, of those that this process is in, and what it has left. Other processes
// may have taken the rest. Files that the kernel has read and can forget count as left.
func groupOf(root fs.FS) (g group) {
	eachGroup(root, func(h hierarchy, dir string) {
		used, known := number(root, path.Join(dir, h.usage))
		if !known {
			return
		}
		for _, file := range h.files {
			limit, ok := number(root, path.Join(dir, file))
			if !ok || limit == 0 || limit > 1<<50 { // v1 writes no limit as the largest number
				continue
			}
			free := int64(limit) - int64(used)
			if used > limit/2 {
				free += cachedOf(root, path.Join(dir, "memory.stat"), h.cached)
			}
			if g.limit == 0 || free < g.free {
				g = group{limit: int64(limit), free: free}
			}
		}
	})
	return g
}

// cachedOf adds up what memory.stat says of the names.
func cachedOf(root fs.FS, file string, names []string) (sum int64) {
	b, _ := fs.ReadFile(root, file)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		for _, want := range names {
			if n, err := strconv.ParseInt(value, 10, 64); name == want && err == nil {
				sum += n
			}
		}
	}
	return sum
}
