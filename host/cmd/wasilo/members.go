package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) members() *cobra.Command {
	cmd := &cobra.Command{
		Use: "members [FLAGS]", Short: "List the nodes of the cluster, block one",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return nil
		},
		Long: `List the nodes of the cluster as the node that is asked sees them: it is marked with *. STATE is what gossip says of a node:
alive, leaving, left or failed; one that failed or left is forgotten after a quarter of an hour. One that is blocked hosts no actors, one that is draining gives away those it
has. VOTE is there
in a cluster with voters: votes, or leads. KINDS are those it hosts, or how many, "-" while it has not said. PROBLEM says what stands between the
two nodes, and through which other node messages between them go meanwhile.

Other nodes may see it otherwise; ask them with --node. With -o json there are the names of the kinds as well.`,
		Example: `  wasilo members
  wasilo members --node http://127.0.0.1:7710
  wasilo members block n2
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
		return a.writeMembers(list)
	}
	cmd.AddCommand(a.membersBlock(), a.membersUnblock())
	return cmd
}

func (a *app) writeMembers(list *gateway.MemberList) error {
	voters := slices.ContainsFunc(list.Members, func(m gateway.MemberInfo) bool { return m.Voter || m.Leads })
	columns := func(state, mode, vote string, rest ...string) []string {
		row := []string{state, mode}
		if voters {
			row = append(row, vote)
		}
		return append(row, rest...)
	}
	t := newTable(a.stdout, append([]string{"NODE"}, columns("STATE", "MODE", "VOTE", "LINK", "HTTP", "KINDS", "PROBLEM")...)...)
	for i := range list.Members {
		m := &list.Members[i]
		state := m.State
		if m.Blocked {
			state += ", blocked"
		}
		if m.Draining {
			state += ", draining"
		}
		row := append([]string{memberName(m)}, columns(state, m.Mode, voteText(m), orDash(m.Link), orDash(m.HTTP), fewNames(m.Kinds))...)
		if problem := problemOf(m); problem != "" {
			row = append(row, problem)
		}
		t.row(row...)
	}
	return t.flush()
}

func voteText(m *gateway.MemberInfo) string {
	switch {
	case m.Leads:
		return "leads"
	case m.Voter:
		return "votes"
	}
	return "-"
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
