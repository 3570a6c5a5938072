package host

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/engine"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/module"
)

// Inspection is what a module file says of itself and can do, without a node.
type Inspection struct {
	File         string             `json:"file"`
	Size         int                `json:"size"` // bytes
	SHA256       string             `json:"sha256"`
	ABI          string             `json:"abi"`
	SDK          string             `json:"sdk,omitempty"`
	Tier         string             `json:"tier"` // image: an instance is a copy of the template; plain: each is started
	TierReason   string             `json:"tier_reason"`
	Features     []string           `json:"features"`      // of WebAssembly beyond its first version
	PreparedSize int                `json:"prepared_size"` // bytes, with what meters and bounds it
	Weights      uint32             `json:"weights"`       // version of the table by which it pays fuel
	Memory       Memory             `json:"memory"`
	Template     *Template          `json:"template,omitempty"` // of the image tier
	LoadMillis   int64              `json:"load_ms"`            // preparing, compiling, starting and describing it, here and now
	Capabilities []string           `json:"capabilities"`       // what its imports let it do
	Imports      []Link             `json:"imports"`
	Exports      []Link             `json:"exports"`
	Kinds        []gateway.KindInfo `json:"kinds"`
}

// Memory is what a module says of its own, in pages of 64 KiB.
type Memory struct {
	Start uint32 `json:"start_pages"` // before its start
	Most  uint32 `json:"most_pages"`  // with the limit that nodes have by default
}

// Template is a module as it has started: what its instances are copies of.
type Template struct {
	SHA256  string `json:"sha256"`
	Pages   int    `json:"pages"`   // of 64 KiB
	Nonzero int    `json:"nonzero"` // bytes of them
}

// Link is an import or export.
type Link struct {
	Name string `json:"name"` // of an import: module.name
	Type string `json:"type"`
}

// Inspect loads a module file as a node would, and tells what it found. The error says what is wrong with the file.
func Inspect(ctx context.Context, path string) (*Inspection, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > module.MaxFileSize {
		return nil, abi.NewError(abi.ErrInvalidArgument, fmt.Sprintf("%s has %d bytes; a module has at most %d", path, info.Size(), module.MaxFileSize))
	}
	wasm, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	eng, err := engine.New(engine.Config{})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	began := time.Now()
	m, err := eng.Load(ctx, wasm)
	took := time.Since(began)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer m.Close()
	d := m.Description()
	out := &Inspection{File: path, Size: m.Size(), SHA256: m.SHA256(), ABI: fmt.Sprintf("%d.%d", d.Major, d.Minor), SDK: d.SDK,
		Features: append([]string{}, m.Features()...), PreparedSize: m.PreparedSize(), Weights: m.WeightsVersion(),
		LoadMillis: took.Milliseconds(), Capabilities: []string{}, Imports: []Link{}, Exports: []Link{}}
	out.Tier, out.TierReason = m.Tier()
	out.Memory.Start, out.Memory.Most = m.MemoryPages()
	if sha := m.TemplateSHA256(); sha != "" {
		size, nonzero := m.TemplateMemory()
		out.Template = &Template{SHA256: sha, Pages: size >> 16, Nonzero: nonzero}
	}
	seen := map[string]bool{"": true}
	for _, i := range m.Imports() {
		out.Imports = append(out.Imports, Link{Name: i.Module + "." + i.Name, Type: i.Type})
		if !seen[i.Cap] {
			seen[i.Cap] = true
			out.Capabilities = append(out.Capabilities, i.Cap)
		}
	}
	for _, e := range m.Exports() {
		out.Exports = append(out.Exports, Link{Name: e.Name, Type: e.Type})
	}
	for i := range d.Kinds {
		k := gateway.DescribeKind(&d.Kinds[i], path, m.SHA256())
		k.Tier = out.Tier
		out.Kinds = append(out.Kinds, k)
	}
	return out, nil
}
