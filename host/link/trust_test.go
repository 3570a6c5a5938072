package link

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/wasilo/wasilo/host/link/ca"
)

// A connection does not outlive the trust that it was made in: when an authority is taken out of the file, whoever it certified
// is dropped, connected or not, and the others do not notice.
func TestAnAuthorityThatIsTakenOut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		old, kept := w.authority, must(ca.New(ca.Options{}))
		bundle := filepath.Join(dir, "both.crt")
		write := func(name string, data []byte, mode os.FileMode) string {
			t.Helper()
			if err := os.WriteFile(name, data, mode); err != nil {
				t.Fatal(err)
			}
			return name
		}
		write(bundle, append(old.Certificate(), kept.Certificate()...), 0o600)
		certified := func(by *ca.Authority, id string) func(*Config) {
			p := must(by.Issue(ca.ID{Cluster: w.cluster, Node: id}, 0))
			cert, key := write(filepath.Join(dir, id+".crt"), p.Certificate, 0o600), write(filepath.Join(dir, id+".key"), p.Key, 0o600)
			return func(c *Config) {
				c.Credentials = must(ca.OpenFiles(bundle, cert, key, ca.Options{}))
			}
		}
		a, b, c := w.node("a", certified(kept, "a")), w.node("b", certified(old, "b")), w.node("c", certified(kept, "c"))
		for _, n := range []*node{b, c} {
			if _, err := w.target(n, a).Deliver(t.Context(), message("counter/x", nil)); err != nil {
				t.Fatal(err)
			}
		}
		write(bundle, kept.Certificate(), 0o600)
		for {
			i := <-a.incidents
			if i.Reason == BadCertificate && i.Node == "b" {
				break
			}
		}
		if _, err := w.target(b, a).Deliver(t.Context(), message("counter/x", nil)); err == nil {
			t.Error("a node of the authority that was taken out is still answered")
		}
		if _, err := w.target(c, a).Deliver(t.Context(), message("counter/x", nil)); err != nil {
			t.Error(err)
		}
	})
}
