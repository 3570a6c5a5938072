package forge_test

import (
	"fmt"

	"github.com/wasilo/wasilo/host/forge"
)

func ExamplePrepare() {
	// (module (memory 1) (global (mut i32) (i32.const 7)) (data (i32.const 16) "hello"))
	wasm := module(section(5, cat("00 01")), section(6, cat("7f 01 41 07 0b")), section(11, cat("00 41 10 0b", name("hello"))))
	m, err := forge.Prepare(wasm, forge.Options{Meter: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s tier: %s\n", m.Tier, m.TierReason)
	fmt.Printf("memory of %d to %d pages\n", m.MemoryMin, m.MemoryMax)
	for _, g := range m.Globals {
		fmt.Printf("global %d, %s, is exported as %s\n", g.Index, g.Type, g.Name)
	}
	for _, s := range m.Data {
		fmt.Printf("%q goes to address %d\n", s.Bytes, s.Offset)
	}
	// Output:
	// image tier: all state is memory and numeric globals
	// memory of 1 to 1024 pages
	// global 0, i32, is exported as wasilo_forge_global_0
	// "hello" goes to address 16
}

func ExampleError() {
	_, err := forge.Prepare(simple("12 00"), forge.Options{Meter: true})
	fmt.Println(err)
	// Output:
	// code section, function 0, byte 62: the instruction 0x12 (the tail calls proposal) is not part of WebAssembly 2.0 (illegal opcode)
}
