//go:build race

package engine_test

// raced: the race detector slows wazero's compiler down some forty times.
const raced = true
