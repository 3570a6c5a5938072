package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) inspect() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Show what a module is and what it can do", Args: takes(1, 1),
		Long: `Load a .wasm file as a node would, without one: show its kinds and methods, what its imports let it do, its version,
and how its actors come to be. A module that a node would refuse ends with the reason.

Actors of a module in the tier "image" are copies of its template, which is made once: they start in microseconds. Those in the tier
"plain" are started one by one, since the module keeps state that cannot be copied; the reason is beside it.`,
		Example: `  wasilo inspect actors/counter.wasm
  wasilo inspect actors/counter.wasm -o json | jq '{tier, capabilities}'`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		found, err := host.Inspect(cmd.Context(), args[0])
		if errors.Is(err, fs.ErrNotExist) {
			return &usageError{err: err}
		}
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printJSON(found)
		}
		return writeInspection(a.stdout, found)
	}
	return cmd
}

func writeInspection(w io.Writer, m *host.Inspection) error {
	sdk := m.SDK
	if sdk == "" {
		sdk = "unknown"
	}
	may := "nothing beyond replying"
	if len(m.Capabilities) > 0 {
		may = strings.Join(m.Capabilities, ", ")
	}
	t := newTable(w)
	t.row("file", m.File+" ("+bytesText(int64(m.Size))+")")
	t.row("sha256", m.SHA256)
	t.row("abi", m.ABI)
	t.row("sdk", sdk)
	t.row("may", may)
	t.row("tier", m.Tier+": "+oneLine(m.TierReason))
	t.row("template", templateText(m))
	t.row("features", cmp.Or(strings.Join(m.Features, ", "), "none beyond WebAssembly 1.0"))
	t.row("prepared", fmt.Sprintf("%s, fuel by weights %d, loaded in %v", bytesText(int64(m.PreparedSize)), m.Weights,
		time.Duration(m.LoadMillis)*time.Millisecond))
	for i, l := range m.Imports {
		head := ""
		if i == 0 {
			head = "imports"
		}
		t.row(head, l.Name+" "+l.Type)
	}
	for i, l := range m.Exports {
		head := ""
		if i == 0 {
			head = "exports"
		}
		t.row(head, l.Name+" "+l.Type)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for i := range m.Kinds {
		if err := writeKind(w, &m.Kinds[i]); err != nil {
			return err
		}
	}
	return nil
}

// templateText says what instances start from.
func templateText(m *host.Inspection) string {
	most := fmt.Sprintf("at most %s of memory", bytesText(int64(m.Memory.Most)<<16))
	if m.Template == nil {
		return "none; instances start with " + bytesText(int64(m.Memory.Start)<<16) + ", " + most
	}
	return fmt.Sprintf("%.12s, %s of memory, %s of it not zero; %s", m.Template.SHA256, bytesText(int64(m.Template.Pages)<<16),
		bytesText(int64(m.Template.Nonzero)), most)
}

func writeKind(w io.Writer, k *gateway.KindInfo) error {
	head := "\nkind " + k.Name
	if k.Doc != "" {
		head += ": " + oneLine(k.Doc)
	}
	events := oneLine(strings.Join(k.Events, ", "))
	if _, err := fmt.Fprintf(w, "%s\n  state %s; events %s\n", head, stateText(k.State), events); err != nil {
		return err
	}
	t := newTable(w)
	t.indent = "  "
	for i := range k.Methods {
		m := &k.Methods[i]
		t.row(m.Name, m.Params+" -> "+m.Result, m.Doc)
	}
	return t.flush()
}
