//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sleep

import (
	"os"
	"runtime"
)

// lockFile knows no lock. On Windows a file that is open cannot be removed, which does as well; elsewhere leftovers stay.
func lockFile(*os.File) (bool, error) { return true, nil }

// removeLocked closes the file first, since Windows removes no open one.
func removeLocked(f *os.File) error {
	name := f.Name()
	_ = f.Close()
	if runtime.GOOS != "windows" {
		if f, err := os.OpenFile(name, os.O_RDWR, 0); err == nil {
			defer f.Close()
		}
	}
	return os.Remove(name)
}
