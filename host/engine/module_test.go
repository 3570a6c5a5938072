package engine

import (
	"slices"
	"testing"
)

func TestWhatTheForgeFound(t *testing.T) {
	e := newEngine(t, Config{})
	image, plain := mustLoad(t, e, "tally.wasm"), mustLoad(t, e, "hostile/table_grow.wasm")
	if tier, reason := image.Tier(); tier != "image" || reason == "" || len(image.TemplateSHA256()) != 64 {
		t.Errorf("%s: %s; template %s", tier, reason, image.TemplateSHA256())
	}
	size, nonzero := image.TemplateMemory()
	if start, most := image.MemoryPages(); size < int(start)*pageSize || size > int(most)*pageSize || nonzero <= 0 || nonzero > size {
		t.Errorf("%d bytes, %d of them not zero, of %d to %d pages", size, nonzero, start, most)
	}
	if tier, reason := plain.Tier(); tier != "plain" || reason == "" || plain.TemplateSHA256() != "" {
		t.Errorf("%s: %s; template %q", tier, reason, plain.TemplateSHA256())
	}
	if size, nonzero := plain.TemplateMemory(); size != 0 || nonzero != 0 {
		t.Errorf("a plain module's template has %d bytes, %d not zero", size, nonzero)
	}
	if f := plain.Features(); !slices.Equal(f, []string{"bulk-memory", "reference-types"}) || image.Features() != nil {
		t.Errorf("features %q and %q", f, image.Features())
	}
	if image.PreparedSize() == 0 || image.WeightsVersion() == 0 {
		t.Errorf("%d bytes, weights %d", image.PreparedSize(), image.WeightsVersion())
	}
	image.Close()
	if size, _ := image.TemplateMemory(); size != 0 {
		t.Errorf("after Close the template has %d bytes", size)
	}
}
