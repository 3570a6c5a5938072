package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host"
	"github.com/wasilo/wasilo/host/consensus"
	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) voters() *cobra.Command {
	return group(&cobra.Command{
		Use: "voters COMMAND", Short: "See and change who keeps the log of who owns what",
		Long: `In a cluster with voters an actor runs on a node only while the voters' log says so, so it never lives twice. Three voters go on
when one is lost, five when two are. These commands list and change them, by way of any node; recover works on the directory of a node
that does not run.`,
		Example: `  wasilo voters list
  wasilo voters add n4 --even
  wasilo voters rm n2
  wasilo voters recover --data /var/lib/wasilo --yes`,
	}, a.votersList(), a.votersAdd(), a.votersRemove(), a.votersRecover())
}

func (a *app) votersList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list [FLAGS]", Short: "List the voters", Args: takes(0, 0),
		Long: `List the voters, and the nodes that are ready to be one. VOTER is a voter's raft id, NODE#NONCE: a node that has lost its disk has
another one. STATE is leads, voting, waiting (for the others, so that the log can begin), not_a_voter, failed, or unknown, when it does not
answer. CONTACT is how long ago it heard of the leader, BEHIND how many entries it lacks of the leader's.

With -o json there are generation, term and the index of the log as well; they stand on stderr else.`,
		Example: "  wasilo voters list\n  wasilo voters list -o json | jq -r .leader",
	}
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		list, err := c.Voters(cmd.Context())
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printJSON(list)
		}
		return a.writeVoters(list)
	}
	return cmd
}

func (a *app) writeVoters(list *gateway.VoterList) error {
	last := uint64(0)
	for _, v := range list.Voters {
		if v.Leads {
			last = v.Last
		}
	}
	t := newTable(a.stdout, "NODE", "VOTER", "STATE", "LINK", "CONTACT", "INDEX", "BEHIND", "PROBLEM")
	for _, v := range list.Voters {
		state, contact, index, behind := v.State, "-", "-", "-"
		if v.Leads {
			state = "leads"
		}
		if v.ContactMS != nil {
			contact = (time.Duration(*v.ContactMS) * time.Millisecond).String()
		}
		if v.State != gateway.VoterUnknown {
			index = strconv.FormatUint(v.Last, 10)
			if last > 0 && v.State == gateway.VoterVoting {
				behind = strconv.FormatUint(max(last, v.Last)-v.Last, 10)
			}
		}
		row := []string{v.ID, orDash(v.Voter), state, orDash(v.Link), contact, index, behind}
		if v.Problem != "" {
			row = append(row, v.Problem)
		}
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	leader := "no voter leads: until a majority of them is up and in reach, no actor runs"
	if list.Leader != "" {
		leader = "node " + list.Leader + " leads in term " + strconv.FormatUint(list.Term, 10)
	}
	fmt.Fprintf(a.stderr, "%s; generation %d, the log of the node that was asked is at %d\n", oneLine(leader), list.Generation, list.Index)
	return nil
}

const evenUsage = "allow an even number of voters"

func (a *app) votersAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NODE [FLAGS]", Short: "Make a node a voter", Args: takes(1, 1),
		Long: `Make a node a voter that runs and was started with --voter (or --voters). It counts at once, and catches up meanwhile. One change at a
time: a second one meanwhile is refused, and may be tried again.

An even number of voters bears no more losses than one less, so it is refused; from three to five lead two steps, the first with --even.`,
		Example: `  wasilo voters add n4 --even
  wasilo voters add n5`,
	}
	even := cmd.Flags().Bool("even", false, evenUsage)
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.changeVoters(cmd, args[0], *even, true) }
	return cmd
}

func (a *app) votersRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NODE [FLAGS]", Short: "Take a node's vote away", Args: takes(1, 1),
		Long: `Take a vote away: NODE is the id of a node, or a raft id as wasilo voters list shows it. The node goes on hosting actors. A majority
of the voters has to be up, the one that goes need not.

To replace a voter that is lost, remove it with --even first, and add the new one, which may have the same id, right after.`,
		Example: `  wasilo voters rm n2 --even
  wasilo voters rm 'n2#00f3a1b2c3d4e5f6' --even`,
	}
	even := cmd.Flags().Bool("even", false, evenUsage)
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.changeVoters(cmd, args[0], *even, false) }
	return cmd
}

func (a *app) changeVoters(cmd *cobra.Command, which string, even, add bool) error {
	c, err := a.dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	change, done := c.RemoveVoter, "is a voter no more"
	if add {
		change, done = c.AddVoter, "is a voter now"
	}
	v, err := change(cmd.Context(), which, even)
	if err != nil {
		return err
	}
	if a.output == outputJSON {
		return a.printJSON(v)
	}
	_, err = fmt.Fprintf(a.stdout, "%s %s; there are %d\n", oneLine(v.Voter), done, v.Count)
	return err
}

func (a *app) votersRecover() *cobra.Command {
	cmd := &cobra.Command{
		Use: "recover --data DIR --yes [FLAGS]", Short: "Make one voter the only one, when a majority is lost for good", Args: takes(0, 0),
		Long: `Make the voter whose directory of data is named the only one of its cluster. It is the way out when a majority of the voters is lost for
good, and for nothing else: whatever only the lost ones had is gone.

Every node of the cluster must be stopped first, this one too, and the lost voters' logs must never be started again: two of them could go on
as if nothing had happened. So this command asks for --yes. Of several survivors take the one whose log is longest: wasilo voters
list shows INDEX while they run.

The log goes on in the next generation, in which every epoch is above all earlier ones. Start this node again as it was, then the others, each
former voter with DIR/raft moved away and with --voter, and make them voters by wasilo voters add.`,
		Example: "  wasilo voters recover --data /var/lib/wasilo --yes",
	}
	yes := false
	cmd.Flags().BoolVar(&yes, "yes", false, "all other nodes are stopped, and the lost voters stay lost")
	dataFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defaults := defaultSettings()
		defaults.host.DataDir = "wasilo-data"
		c, err := loadSettings(cmd.Flags(), a.env, defaults)
		if err != nil {
			return err
		}
		cluster, id, err := consensus.Whose(c.host.DataDir)
		if err != nil {
			return recoverError(err)
		}
		if !yes {
			return usagef("nothing was done: this would make %s the only voter of the cluster %s, and what only the other voters know would be lost. Stop "+
				"every other node of the cluster, see to it that the voters which are lost never come back with their logs, and repeat it with --yes", id, cluster)
		}
		r, err := host.RecoverVoters(cmd.Context(), c.host.DataDir, newLogger(a.stderr, max(c.logLevel, slog.LevelWarn), c.logFormat, a.env))
		if err != nil {
			return recoverError(err)
		}
		if a.output == outputJSON {
			return a.printJSON(r)
		}
		t := newTable(a.stdout, "CLUSTER", "VOTER", "GENERATION", "INDEX")
		t.row(r.Cluster, r.Voter, strconv.FormatUint(uint64(r.Generation), 10), strconv.FormatUint(r.Index, 10))
		if err := t.flush(); err != nil {
			return err
		}
		for _, lost := range r.Lost {
			fmt.Fprintf(a.stderr, "%s has no vote any more: before that node starts again, move DIR/raft of its data away; start it with --voter, and run: "+
				"wasilo voters add %s --even\n", oneLine(lost), nodeOf(lost))
		}
		return nil
	}
	return cmd
}

func nodeOf(voter string) string {
	id, err := consensus.ParseRaftID(voter)
	if err != nil {
		return "NODE"
	}
	return string(id.Node)
}

// recoverError is the caller's mistake where it is one.
func recoverError(err error) error {
	if errors.Is(err, consensus.ErrRefused) {
		return &usageError{err: err}
	}
	return err
}
