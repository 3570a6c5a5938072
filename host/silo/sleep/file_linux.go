package sleep

import "golang.org/x/sys/unix"

// Punch frees the space of a range. Not every file system can.
func (f osFile) Punch(off, n int64) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := c.Control(func(fd uintptr) { // the descriptor stays this file's meanwhile
		err = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}); e != nil {
		return e
	}
	return err
}
