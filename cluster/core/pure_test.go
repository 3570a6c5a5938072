//go:build !wasip1

package core

import (
	"os"
	"os/exec"
	"testing"
)

// TestA6_1_BuildsForTheRestrictedEnvironment: the core builds and vets, tests included, where there are no sockets and threads.
func TestA6_1_BuildsForTheRestrictedEnvironment(t *testing.T) {
	for _, args := range [][]string{{"build", "."}, {"vet", "."}, {"test", "-c", "-o", os.DevNull, "."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("GOOS=wasip1 GOARCH=wasm go %v: %v\n%s", args, err, out)
		}
	}
}
