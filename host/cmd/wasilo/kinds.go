package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) kinds() *cobra.Command {
	cmd := &cobra.Command{
		Use: "kinds [FLAGS]", Short: "List the kinds that a node serves", Args: takes(0, 0),
		Long: `List the kinds that the node serves, with their methods, and the module files that it refused.

With -o json there are the documentation, the schemas, an example and the version of each as well.`,
		Example: `  wasilo kinds
  wasilo kinds -o json | jq '.kinds[] | select(.name == "chat") | .methods'`,
	}
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		list, err := c.Kinds(cmd.Context())
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printJSON(list)
		}
		t := newTable(a.stdout, "KIND", "METHODS", "STATE", "FILE")
		for i := range list.Kinds {
			k := &list.Kinds[i]
			file := "(native)"
			if k.File != "" {
				file = filepath.Base(k.File)
			}
			t.row(k.Name, methodNames(k), stateText(k.State), file)
		}
		if err := t.flush(); err != nil {
			return err
		}
		for _, f := range list.Files {
			if f.State != gateway.FileLoaded {
				fmt.Fprintln(a.stderr, refusal(f))
			}
		}
		return nil
	}
	return cmd
}
