package host

import (
	"os"
	"strconv"
	"testing"
	"testing/fstest"
)

func TestMemoryOfTheMachineAndItsGroups(t *testing.T) {
	const total = "MemTotal:       16777216 kB\nMemFree:         1000 kB\n" // 16 GiB
	v2, v1 := "0::/system.slice/wasilo.service\n", "12:pids:/x\n5:cpu,memory:/docker/abc\n0::/docker/abc\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  uint64 // MiB; 0: not known
	}{
		{"nothing tells", map[string]string{}, 0},
		{"no group", map[string]string{"proc/meminfo": total}, 16384},
		{"no limit", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v2,
			"sys/fs/cgroup/system.slice/wasilo.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/memory.max": "max\n"}, 16384},
		{"its own", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v2,
			"sys/fs/cgroup/system.slice/wasilo.service/memory.max": "536870912\n", "sys/fs/cgroup/system.slice/memory.max": "max\n"}, 512},
		{"one above is lower", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v2,
			"sys/fs/cgroup/system.slice/wasilo.service/memory.max": "536870912", "sys/fs/cgroup/system.slice/memory.max": "268435456"}, 256},
		{"high is lower", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v2,
			"sys/fs/cgroup/system.slice/wasilo.service/memory.max":  "536870912",
			"sys/fs/cgroup/system.slice/wasilo.service/memory.high": "402653184"}, 384},
		{"nil is no limit to live by", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v2,
			"sys/fs/cgroup/system.slice/wasilo.service/memory.high": "0"}, 16384},
		{"more than there is", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v2,
			"sys/fs/cgroup/system.slice/wasilo.service/memory.max": "68719476736"}, 16384},
		{"a container with a tree of its own", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "1073741824"}, 1024},
		{"a container that sees the host's path", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "0::/kubepods/pod1/abc\n",
			"sys/fs/cgroup/memory.max": "1073741824"}, 1024},
		{"a path that leads out of the tree", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "0::/../../x\n",
			"sys/fs/cgroup/memory.max": "1073741824"}, 1024},
		{"v1", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "805306368\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":            "9223372036854771712\n"}, 768},
		{"v1 in a container", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "805306368\n"}, 768},
		{"v1 without a limit", map[string]string{"proc/meminfo": total, "proc/self/cgroup": v1,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16384},
		{"both, memory in v2", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "1:name=systemd:/a\n0::/a\n",
			"sys/fs/cgroup/unified/a/memory.max": "134217728"}, 128},
		{"another controller's limits", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "3:cpu:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1"}, 16384},
		{"a group alone", map[string]string{"proc/self/cgroup": v2, "sys/fs/cgroup/system.slice/wasilo.service/memory.max": "536870912"}, 512},
		{"no /proc", map[string]string{"sys/fs/cgroup/memory.max": "536870912"}, 512},
		{"garbage", map[string]string{"proc/meminfo": "MemTotal: much\n", "proc/self/cgroup": "\n:\n0:/\n0::no\n::::\n",
			"sys/fs/cgroup/memory.max": "-1"}, 0},
		{"a colon in the name", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "0::/a:b\n",
			"sys/fs/cgroup/a:b/memory.max": "536870912"}, 512},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if n, known := memoryOf(root); n != c.want<<20 || known != (c.want > 0) {
			t.Errorf("%s: %d MiB (%d), known %v; want %d MiB", c.name, n>>20, n, known, c.want)
		}
	}
}

// Here, whatever here is, it is neither nothing nor more than the machine has.
func TestMemoryOfThisMachine(t *testing.T) {
	n, known := MachineMemory()
	total, ok := totalMemory(os.DirFS("/"))
	if known && n < 1<<20 || ok && (!known || n > total) {
		t.Errorf("%s, known %v; the machine has %s", strconv.FormatUint(n, 10), known, strconv.FormatUint(total, 10))
	}
	if machineMemory() == 0 {
		t.Error("nothing to live on")
	}
}
