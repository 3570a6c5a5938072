package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) kinds() *cobra.Command {
	cmd := &cobra.Command{
		Use: "kinds [FLAGS]", Short: "List the kinds of the cluster", Args: takes(0, 0),
		Long: `List the kinds of the cluster, with their methods and the nodes that host them, and the module files that the node refused. FILE is
the module of the node that is asked, "-" where it does not host the kind. A kind that "backs off" is one whose actors did not start
there, time after time: it says below when the next start is tried, and what the last one failed with.

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
		t := newTable(a.stdout, "KIND", "METHODS", "STATE", "NODES", "FILE")
		for i := range list.Kinds {
			k := &list.Kinds[i]
			state := stateText(k.State)
			if k.Backoff != nil {
				state += ", backs off"
			}
			t.row(k.Name, methodNames(k), state, fewNames(k.Nodes), fileOf(k))
		}
		if err := t.flush(); err != nil {
			return err
		}
		for i := range list.Kinds {
			if k := &list.Kinds[i]; k.Backoff != nil {
				fmt.Fprintln(a.stderr, oneLine(k.Name+" "+k.Backoff.String()))
			}
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

// fileOf is the module that the node which was asked has the kind from.
func fileOf(k *gateway.KindInfo) string {
	switch {
	case k.File != "":
		return filepath.Base(k.File)
	case k.Version == "": // of other nodes
		return "-"
	}
	return "(native)"
}

// fewNames lists a few names and counts many; nil is not known.
func fewNames(names []string) string {
	const most = 24 // bytes
	text := strings.Join(names, " ")
	switch {
	case names == nil:
		return "-"
	case len(names) == 0 || len(text) > most:
		return strconv.Itoa(len(names))
	}
	return text
}
