//go:build race

package engine

// Raced: the race detector slows wazero's compiler down some forty times.
const Raced = true
