package host

import (
	"context"
	"fmt"
	"os"

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
	Capabilities []string           `json:"capabilities"` // what its imports let it do
	Imports      []Link             `json:"imports"`
	Exports      []Link             `json:"exports"`
	Kinds        []gateway.KindInfo `json:"kinds"`
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
	m, err := eng.Load(ctx, wasm)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer m.Close()
	d := m.Description()
	out := &Inspection{File: path, Size: m.Size(), SHA256: m.SHA256(), ABI: fmt.Sprintf("%d.%d", d.Major, d.Minor), SDK: d.SDK,
		Capabilities: []string{}, Imports: []Link{}, Exports: []Link{}}
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
		out.Kinds = append(out.Kinds, gateway.DescribeKind(&d.Kinds[i], path, m.SHA256()))
	}
	return out, nil
}
