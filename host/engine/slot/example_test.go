package slot_test

import (
	"fmt"

	"github.com/wasilo/wasilo/host/engine/slot"
)

// A memory starts as the image, is written to, and becomes the image again for whoever is next.
func Example() {
	image := make([]byte, 64<<10)
	copy(image, "as it starts")
	pool, err := slot.NewPool(image, slot.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()

	s, err := pool.Get(1 << 20)
	if err != nil {
		fmt.Println(err)
		return
	}
	copy(s.Bytes(), "as one left it")
	copy(s.Grow(128 << 10)[100_000:], "and more")
	err = s.Dirty(func(offset uint32, page []byte) bool {
		fmt.Println("dirty:", offset, len(page))
		return true
	})
	if err != nil {
		fmt.Println(err)
	}
	s.Release()

	s, err = pool.Get(1 << 20)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, %d bytes\n", s.Bytes()[:12], len(s.Bytes()))
	s.Release()
	// Output:
	// dirty: 0 4096
	// dirty: 98304 4096
	// as it starts, 65536 bytes
}
