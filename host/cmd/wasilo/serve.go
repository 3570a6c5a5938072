package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host"
)

func (a *app) serve() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve [FLAGS]", Short: "Run a node", Args: takes(0, 0),
		Long: `Run a node: serve the .wasm files of a directory until SIGINT, SIGTERM or SIGHUP, which shuts it down gracefully; a
second one ends it at once.

Each setting comes from its flag, else from its variable (--max-message is WASILO_MAX_MESSAGE), else from wasilo.toml,
else it has the default shown. In the file, log and limits are tables, and [kinds.NAME] has, of one kind,
` + strings.Join((&configFile{kinds: kindSettings()}).kindKeys(), ", ") + `;
relative paths start at the file. Sizes are written "64MiB", times "5s".

Nodes that --join each other are one cluster: each actor lives on one of them and answers through all. Beyond loopback they need
certificates and a gossip key; wasilo ca and wasilo node make them. --mode client is a node that hosts nothing and needs no actors.

With -o json, one line {"url":…,"id":…,"link":…,"gossip":…} on stdout says that the node is ready, and where. A wrong configuration
ends with exit code 2, a port in use or a directory that cannot be written with 1.`,
		Example: `  wasilo serve --actors ./actors --data ./wasilo-data
  wasilo serve --id n2 --http 127.0.0.1:7710 --link 127.0.0.1:7711 --gossip 127.0.0.1:7956 --join 127.0.0.1:7946
  wasilo serve --http 127.0.0.1:0 -o json
  WASILO_MAX_ACTORS=500000 wasilo serve --config /etc/wasilo/wasilo.toml

  # wasilo.toml
  actors = "actors"
  [limits]
  turn = "2s"
  [kinds.chat]
  idle = "1h"`,
	}
	nodeFlags(cmd.Flags())
	cmd.Flags().Bool(leashFlag, false, "end gracefully when stdin ends")
	_ = cmd.Flags().MarkHidden(leashFlag) // it is there
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defaults := defaultSettings()
		defaults.host.ID = "node"
		defaults.host.DataDir = "wasilo-data"
		c, err := loadSettings(cmd.Flags(), a.env, defaults)
		if err != nil {
			return err
		}
		c.leash = cmd.Flags().Changed(leashFlag)
		return a.runNode(cmd.Context(), c, func(n *host.Node) error { return a.announce(n, &c) })
	}
	return cmd
}
