package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) inspect() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Show what a module is and what it can do", Args: takes(1, 1),
		Long: `Load a .wasm file as a node would, without one: show its kinds and methods, what its imports let it do, and its
version. A module that a node would refuse ends with the reason.`,
		Example: `  wasilo inspect actors/counter.wasm
  wasilo inspect actors/counter.wasm -o json | jq .capabilities`,
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
