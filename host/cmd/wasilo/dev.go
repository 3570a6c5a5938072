package main

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host"
)

func (a *app) dev() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dev [DIR] [FLAGS]", Short: "Run a node, or several, for development and say what to type next", Args: takes(0, 1),
		Long: `Run a node on this machine that serves the .wasm files of DIR (default ./actors) and follows the directory: a new or
changed file counts for the next activation, a broken one is reported and the version before it stays.

Compiled modules are kept in the user's cache directory, so the next start is quick. All settings of wasilo serve apply.

With --nodes N there are N nodes n1, n2, … in one cluster, each a process of its own, which end with this one. They listen on the
ports of --http, --link and --gossip, the second one on ports higher by ten, and so on. The gossip is fast unless --profile says
otherwise. What --max-bytes and --max-sleep say is for all of them together. With -o json, one line {"nodes":[{"url":…,"id":…,"link":…,"gossip":…,"pid":…},…]} on stdout says that all are
ready and connected.

With --nodes N --quorum that cluster has voters: the first nodes, three or five of them, keep a log of who owns what, so that no actor lives
twice, and those who are cut off from the majority refuse calls.`,
		Example: `  wasilo dev
  wasilo dev --nodes 3
  wasilo dev --nodes 3 --quorum
  wasilo dev ./build --http 127.0.0.1:0
  wasilo dev --log-level debug`,
	}
	nodes := 0
	cmd.Flags().Var(countFlag{&nodes, 1, mostNodes}, "nodes",
		"`N` nodes in one cluster, 1 to "+strconv.Itoa(mostNodes)+" (default: one, in this process)")
	nodeFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && cmd.Flags().Changed("actors") {
			return usagef("DIR and --actors say the same: give one of them")
		}
		defaults := defaultSettings()
		defaults.host.ID = "dev"
		c, err := loadSettings(cmd.Flags(), a.env, defaults)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			c.host.ActorsDir = args[0]
		}
		if nodes > 0 {
			if cmd.Flags().Changed("id") {
				return usagef("--nodes calls the nodes n1, n2 and so on: leave out --id")
			}
			data, remove, err := fleetDataDir(c.host.DataDir)
			if err != nil {
				return err
			}
			defer remove()
			return a.runFleet(cmd.Context(), c, cmd.Flags(), nodes, data)
		}
		if c.host.DataDir == "" {
			dir, remove, err := devDataDir()
			if err != nil {
				return err
			}
			defer remove()
			c.host.DataDir = dir
		}
		return a.runNode(cmd.Context(), c, func(n *host.Node) error {
			if c.logFormat != "json" { // else who reads stderr reads records
				a.banner(n, c.actorsDir())
			}
			return a.announce(n, &c)
		})
	}
	return cmd
}

// devDataDir is a place in the user's cache, or, where there is none that can be made, a new temporary one. The latter
// is never at a name that another user could have taken before: what is kept there is machine code.
func devDataDir() (dir string, remove func(), err error) {
	if cache, err := os.UserCacheDir(); err == nil {
		dir := filepath.Join(cache, "wasilo", "dev")
		if os.MkdirAll(dir, 0o700) == nil {
			return dir, func() {}, nil
		}
	}
	if dir, err = os.MkdirTemp("", "wasilo-dev-"); err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
