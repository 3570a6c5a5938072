//go:build race

package sleep

const million = 100_000
