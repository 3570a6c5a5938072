package main

import (
	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) members() *cobra.Command {
	cmd := &cobra.Command{
		Use: "members [FLAGS]", Short: "List the nodes of the cluster", Args: takes(0, 0),
		Long: `List the nodes of the cluster as the node that is asked sees them: it is marked with *. STATE is what gossip says of a node:
alive, leaving, left or failed; one that failed or left is forgotten after a quarter of an hour. KINDS are those it hosts, or how many,
"-" while it has not said. PROBLEM says what stands between the two nodes,
and through which other node messages between them go meanwhile.

Other nodes may see it otherwise; ask them with --node. With -o json there are the names of the kinds as well.`,
		Example: `  wasilo members
  wasilo members --node http://127.0.0.1:7710
  wasilo members -o json | jq -r '.members[] | select(.state == "alive") | .id'`,
	}
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		list, err := c.Members(cmd.Context())
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printJSON(list)
		}
		t := newTable(a.stdout, "NODE", "STATE", "MODE", "LINK", "HTTP", "KINDS", "PROBLEM")
		for i := range list.Members {
			m := &list.Members[i]
			row := []string{memberName(m), m.State, m.Mode, orDash(m.Link), orDash(m.HTTP), fewNames(m.Kinds)}
			if problem := problemOf(m); problem != "" {
				row = append(row, problem)
			}
			t.row(row...)
		}
		return t.flush()
	}
	return cmd
}

// memberName marks the node that answered.
func memberName(m *gateway.MemberInfo) string {
	if m.Self {
		return m.ID + " *"
	}
	return m.ID
}

// problemOf is what stands between the nodes: no connection is a problem too, where there should be one.
func problemOf(m *gateway.MemberInfo) string {
	if m.Problem == "" && m.State == gateway.MemberAlive && m.Mode == "member" && !m.Linked && !m.Self {
		return "no connection yet"
	}
	return m.Problem
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
