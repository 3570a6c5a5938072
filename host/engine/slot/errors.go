package slot

import (
	"errors"
	"fmt"
)

// What a caller may branch on. The errors returned wrap these and say more.
var (
	// ErrImage: the image is not one of a 32-bit linear memory. The template is built wrongly; trying again is useless.
	ErrImage = errors.New("the image is not a whole number of 64 KiB pages up to 4 GiB")
	// ErrLimit: the limit given to Get is below the size of the image.
	ErrLimit = errors.New("the memory limit is smaller than the image that every instance starts with; raise the limit or make the guest's initial memory smaller")
	// ErrMemory: the operating system has no memory, mapping or descriptor for it. It may have some later.
	ErrMemory = errors.New("the operating system refuses memory; stop instances, or raise the limits on memory (RLIMIT_AS, cgroup), mappings (vm.max_map_count) or files (RLIMIT_NOFILE)")
	// ErrScan: the kernel did not say which pages were written. The slot is as good as before, but cannot be compared.
	ErrScan = errors.New("the kernel does not say which pages were written; the instance can go on, but cannot be saved or reused")
	// ErrClosed: the pool is closed.
	ErrClosed = errors.New("the pool is closed; take instances from the module that replaced it")
	// ErrReleased: the slot was released or discarded before.
	ErrReleased = errors.New("the slot was given back before; this is a mistake of the program")
)

// LiveError is what Close returns while slots are in use.
type LiveError struct {
	Live int // slots neither released nor discarded
}

func (e *LiveError) Error() string {
	return fmt.Sprintf("slot: %d slots are in use; release or discard them before closing their pool", e.Live)
}
