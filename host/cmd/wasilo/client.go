package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway/client"
)

// nodeFlag declares --node for a verb that asks a node.
func nodeFlag(cmd *cobra.Command) {
	cmd.Flags().String("node", "", "`URL` of the node, else WASILO_NODE (default "+client.DefaultURL+")")
}

// dial returns a client of the node that the flags or the environment name.
func (a *app) dial(cmd *cobra.Command) (*client.Client, error) {
	vars, err := variables(a.env, nodeSettings())
	if err != nil {
		return nil, err
	}
	url := vars["WASILO_NODE"]
	if f := cmd.Flags().Lookup("node"); f.Changed {
		url = strings.TrimSpace(f.Value.String())
	}
	return client.New(client.Config{URL: url, UserAgent: "wasilo/" + buildVersion()})
}
