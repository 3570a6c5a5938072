package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/abi"
	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/gateway/client"
)

// drainEvery is how often a drain is asked how far it is.
const drainEvery = 200 * time.Millisecond

func (a *app) drain() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain [FLAGS]", Short: "Have a node give its actors away", Args: takes(0, 0),
		Long: `Have a node give all of its actors to others, in good order, and wait until it has none. It stays a node of the cluster: its gateway
answers, and passes calls on, but /readyz says that it is not ready, so that clients go elsewhere. That lasts until --undo, or until the node
ends; a node that is told to end drains by itself.

With voters the partitions of the node move one after another, with what sleeps in them, and it leads the voters no more. Without voters the
actors end after what waits for them, and begin anew on other nodes. What no other node hosts stays: that is said, with exit code 4.`,
		Example: `  wasilo drain --node http://127.0.0.1:7710
  wasilo drain --undo --node http://127.0.0.1:7710`,
	}
	undo := cmd.Flags().Bool("undo", false, "have it host actors again")
	nodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		info, err := c.Drain(cmd.Context(), *undo)
		if err == nil && !*undo {
			info, err = a.awaitDrain(cmd.Context(), c, info)
		}
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			err = a.printJSON(info)
		} else {
			_, err = fmt.Fprintln(a.stdout, drainText(info))
		}
		if err == nil && info.Stays != "" {
			err = abi.NewError(abi.ErrNotReady, info.Stays)
		}
		return err
	}
	return cmd
}

func drainText(info *gateway.DrainInfo) string {
	switch {
	case !info.Draining:
		return "the node hosts actors again"
	case info.Stays != "":
		return "the node is drained but for what stays"
	}
	return "the node is drained"
}

// awaitDrain waits for the end of a drain and tells of its progress on stderr.
func (a *app) awaitDrain(ctx context.Context, c *client.Client, info *gateway.DrainInfo) (*gateway.DrainInfo, error) {
	t := time.NewTicker(drainEvery)
	defer t.Stop()
	for said := ""; ; {
		if !info.Draining {
			return nil, abi.NewError(abi.ErrCanceled, "the drain was taken back meanwhile")
		}
		if info.Done {
			return info, nil
		}
		text := fmt.Sprintf("%d actors active", info.Actors)
		if info.Partitions > 0 || info.Moving > 0 {
			text = fmt.Sprintf("%d partitions left, %d moves under way, ", info.Partitions, info.Moving) + text
		}
		if text != said {
			fmt.Fprintln(a.stderr, text)
			said = text
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var err error
		if info, err = c.Drained(ctx); err != nil {
			return nil, err
		}
	}
}
