// Command gokernels is the part of the corpus that is stock Go: each export does a number of rounds of its work and returns
// a checksum.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

func main() {}

// kMap counts words in a map and walks it.
//
//go:wasmexport k_map
func kMap(rounds uint32) (sum uint32) {
	words := strings.Fields("an actor is a name and what it remembers a message comes and the actor answers the silo holds a lease for each actor")
	for range rounds {
		counts := map[string]int{}
		byLength := map[int]uint32{}
		for i, w := range words {
			counts[w]++
			byLength[len(w)*31+i%7] += uint32(i)
		}
		for i := range 64 {
			byLength[i*7919] += uint32(i)
		}
		for w, n := range counts {
			sum += uint32(len(w) * n)
		}
		for k, v := range byLength {
			sum += uint32(k) ^ v
		}
	}
	return sum
}

// kFmt formats numbers, strings and structures.
//
//go:wasmexport k_fmt
func kFmt(rounds uint32) (sum uint32) {
	type point struct {
		X, Y int
		Name string
	}
	for i := range rounds {
		s := fmt.Sprintf("%d %8.3f %q %v %+v %x", i, float64(i)/3, "kind/identity", []int{1, 2, int(i)}, point{int(i), 7, "p"}, i*2654435761)
		sum = sum*31 + uint32(len(s)) + uint32(s[len(s)-1])
	}
	return sum
}

type account struct {
	Owner   string            `json:"owner"`
	Balance int64             `json:"balance"`
	Rate    float64           `json:"rate"`
	Tags    []string          `json:"tags"`
	Limits  map[string]int    `json:"limits"`
	Nested  *account          `json:"nested,omitempty"`
	Notes   map[string]string `json:"notes,omitempty"`
}

// kJSON encodes and decodes a structure.
//
//go:wasmexport k_json
func kJSON(rounds uint32) (sum uint32) {
	a := account{Owner: "ann", Balance: 1200, Rate: 0.125, Tags: []string{"one", "two", "three"},
		Limits: map[string]int{"day": 100, "month": 2000}, Nested: &account{Owner: "bob \"the builder\"", Notes: map[string]string{"k": "v"}}}
	for i := range rounds {
		a.Balance = int64(i)
		b, err := json.Marshal(a)
		if err != nil {
			return 0
		}
		var back account
		if err := json.Unmarshal(b, &back); err != nil {
			return 0
		}
		sum = sum*31 + uint32(len(b)) + uint32(back.Balance)
	}
	return sum
}

// kSort sorts through an interface and through a function.
//
//go:wasmexport k_sort
func kSort(rounds uint32) (sum uint32) {
	names := make([]string, 256)
	numbers := make([]int, 512)
	seed := uint32(2463534242)
	next := func() uint32 {
		seed ^= seed << 13
		seed ^= seed >> 17
		seed ^= seed << 5
		return seed
	}
	for range rounds {
		for i := range names {
			n := next()
			names[i] = "abcdefghijklmnopqrstuvwxyz"[n%16 : n%16+5]
		}
		for i := range numbers {
			numbers[i] = int(next())
		}
		sort.Strings(names)
		sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
		sum = sum*31 + uint32(names[17][0]) + uint32(numbers[99])
	}
	return sum
}

type op uint8

const (
	push op = iota
	load
	store
	add
	sub
	less
	jumpZero
	jump
	halt
)

type code struct {
	op  op
	arg int
}

// interpret is a stack machine.
func interpret(program []code, locals []int) int {
	var stack [16]int
	sp := 0
	for pc := 0; ; pc++ {
		c := program[pc]
		switch c.op {
		case push:
			stack[sp] = c.arg
			sp++
		case load:
			stack[sp] = locals[c.arg]
			sp++
		case store:
			sp--
			locals[c.arg] = stack[sp]
		case add:
			sp--
			stack[sp-1] += stack[sp]
		case sub:
			sp--
			stack[sp-1] -= stack[sp]
		case less:
			sp--
			if stack[sp-1] < stack[sp] {
				stack[sp-1] = 1
			} else {
				stack[sp-1] = 0
			}
		case jumpZero:
			sp--
			if stack[sp] == 0 {
				pc = c.arg - 1
			}
		case jump:
			pc = c.arg - 1
		case halt:
			return locals[1]
		}
	}
}

// kVM interprets a program that adds up the numbers below 200.
//
//go:wasmexport k_vm
func kVM(rounds uint32) (sum uint32) {
	program := []code{{load, 0}, {push, 200}, {less, 0}, {jumpZero, 13}, {load, 1}, {load, 0}, {add, 0}, {store, 1},
		{load, 0}, {push, 1}, {add, 0}, {store, 0}, {jump, 0}, {halt, 0}}
	for range rounds {
		sum = sum*3 + uint32(interpret(program, make([]int, 2)))
	}
	return sum
}

// kSHA256 hashes 4 KiB.
//
//go:wasmexport k_sha256
func kSHA256(rounds uint32) uint32 {
	text := make([]byte, 4096)
	for range rounds {
		h := sha256.Sum256(text)
		copy(text, h[:])
	}
	return uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16
}
