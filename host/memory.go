package host

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// unknownMemory is assumed where neither a cgroup nor /proc tells, as on other systems than Linux.
const unknownMemory = 8 << 30

// machineMemory returns the bytes of memory that this process can count on: the cgroup's limit (v2 or v1), or what the
// machine has.
func machineMemory() uint64 {
	total := uint64(unknownMemory)
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if rest, ok := strings.CutPrefix(s.Text(), "MemTotal:"); ok {
				if kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64); err == nil {
					total = kib << 10
				}
				break
			}
		}
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && limit < total {
			total = limit // "max" is no number
		}
	}
	return total
}
