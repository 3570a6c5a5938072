//go:build !race

package sleep

const million = 1_000_000
