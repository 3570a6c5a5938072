package host

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the forge found is told of a file and of the kinds that a node serves, native ones aside.
func TestTheTierIsTold(t *testing.T) {
	dir := actorsDir(t, "echo.wasm", "hostile/table_grow.wasm")
	n := start(t, Config{ActorsDir: dir, Native: []NativeKind{counting("count")}})
	served := make(map[string]string)
	for _, k := range n.Kinds() {
		served[k.Name] = k.Tier
	}
	for _, want := range []struct {
		file, tier, reason string
		features           []string
	}{
		{"echo.wasm", "image", "all state is memory", nil},
		{"table_grow.wasm", "plain", "changes table 0 by table.grow", []string{"bulk-memory", "reference-types"}},
	} {
		m, err := Inspect(t.Context(), filepath.Join(dir, want.file))
		if err != nil {
			t.Fatal(err)
		}
		if m.Tier != want.tier || !strings.Contains(m.TierReason, want.reason) || !slices.Equal(m.Features, want.features) {
			t.Errorf("%s: tier %s, %q, features %v", want.file, m.Tier, m.TierReason, m.Features)
		}
		if m.PreparedSize == 0 || m.Weights == 0 || m.Memory.Most != 1024 || m.LoadMillis < 0 {
			t.Errorf("%s: %+v", want.file, m)
		}
		for _, k := range m.Kinds {
			if k.Tier != want.tier || served[k.Name] != want.tier {
				t.Errorf("kind %s of %s: %q, served as %q", k.Name, want.file, k.Tier, served[k.Name])
			}
		}
		again, err := Inspect(t.Context(), filepath.Join(dir, want.file))
		switch {
		case err != nil:
			t.Error(err)
		case want.tier == "plain" && m.Template != nil:
			t.Errorf("%s: template %+v", want.file, m.Template)
		case want.tier == "image" && (m.Template == nil || len(m.Template.SHA256) != 64 || *m.Template != *again.Template ||
			m.Template.Pages < int(m.Memory.Start) || m.Template.Nonzero == 0 || m.Template.Nonzero > m.Template.Pages<<16):
			t.Errorf("%s: template %+v and %+v", want.file, m.Template, again.Template)
		}
	}
	if tier, ok := served["count"]; !ok || tier != "" {
		t.Errorf("a native kind is of tier %q", tier)
	}
}
