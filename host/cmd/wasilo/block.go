package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
)

func (a *app) membersBlock() *cobra.Command {
	return a.blockVerb(&cobra.Command{
		Use: "block ID [FLAGS]", Short: "Keep a node from hosting actors", Args: takes(1, 1),
		Long: `Keep a node from hosting actors, whatever it says of itself: those that it has end there and are placed on other nodes. It stays a member.

With voters it is written into their log: the node's session is not renewed any more, and what it owns goes to others when its time is up, some
three seconds later; to move actors in good order, use wasilo drain. Without voters every node has a block list of its own: all nodes that
are in sight are told, those that could not be are named with exit code 4, and one that starts later does not know of it.`,
		Example: "  wasilo members block n2\n  wasilo members unblock n2",
	}, false)
}

func (a *app) membersUnblock() *cobra.Command {
	return a.blockVerb(&cobra.Command{
		Use: "unblock ID [FLAGS]", Short: "Let a blocked node host actors again", Args: takes(1, 1),
		Long:    "Take a node off the block list, so that it hosts actors again.",
		Example: "  wasilo members unblock n2",
	}, true)
}

func (a *app) blockVerb(cmd *cobra.Command, undo bool) *cobra.Command {
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		info, err := c.Block(cmd.Context(), args[0], undo)
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			err = a.printJSON(info)
		} else {
			_, err = fmt.Fprintln(a.stdout, blockText(info))
		}
		if !info.Known {
			fmt.Fprintf(a.stderr, "no node %s is in sight at present; wasilo members lists those that are\n", oneLine(info.Node))
		}
		if len(info.Missed) == 0 || err != nil {
			return err
		}
		missed := make([]string, len(info.Missed))
		for i, m := range info.Missed {
			missed[i] = m.Node + " (" + m.Error + ")"
		}
		return abi.NewError(abi.ErrNotReady, "not told: "+strings.Join(missed, ", ")+"; repeat it once they can be reached")
	}
	return cmd
}

func blockText(info *gateway.BlockInfo) string {
	text := "node " + oneLine(info.Node) + " is blocked"
	if !info.Blocked {
		text = "node " + oneLine(info.Node) + " is not blocked any more"
	}
	if info.Told == nil {
		return text + ": it is in the voters' log"
	}
	return text + ": " + strings.Join(info.Told, ", ") + " were told"
}
