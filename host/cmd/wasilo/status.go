package main

import (
	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/cluster"
	"github.com/wasilo/wasilo/host"
)

func (a *app) status() *cobra.Command {
	return group(&cobra.Command{
		Use: "status COMMAND", Short: "See, clear or disable a node's part in its cluster",
		Long: `A node notes in its directory of data whether its part in the cluster could be brought up: ready, disabled, or error with a
reason. After an error it does not start again until somebody has looked at the reason and cleared it. A node that is disabled runs its
actors alone. These commands work on the directory, whether a node runs on it or not; what they change counts from its next start on.`,
		Example: `  wasilo status show
  wasilo status clear --data /var/lib/wasilo
  wasilo status disable "moved to another rack"`,
	}, a.statusShow(), a.statusClear(), a.statusDisable())
}

// dataFlags declares the settings of a node for a verb that works on its directory of data.
func dataFlags(cmd *cobra.Command) {
	nodeFlags(cmd.Flags())
	for _, s := range nodeSettings() { // a shared file may have all of them, but here they mean nothing
		if s.name != "data" {
			cmd.Flags().Lookup(s.name).Hidden = true
		}
	}
}

// statusVerb is a verb that works on the store of a node's configuration.
func (a *app) statusVerb(cmd *cobra.Command, run func(store cluster.StatusStore, args []string) error) *cobra.Command {
	dataFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defaults := defaultSettings()
		defaults.host.DataDir = "wasilo-data"
		c, err := loadSettings(cmd.Flags(), a.env, defaults)
		if err != nil {
			return err
		}
		return run(host.StatusStore(c.host.DataDir), args)
	}
	return cmd
}

func (a *app) statusShow() *cobra.Command {
	return a.statusVerb(&cobra.Command{
		Use: "show [FLAGS]", Short: "Show the recorded readiness", Args: takes(0, 0),
		Long: `Show the readiness that is recorded in the directory of data: ready, disabled or error, with the reason; "unknown" if none is.
With -o json it is {"readiness":…,"kind":…,"reason":…}.`,
		Example: "  wasilo status show\n  wasilo status show -o json | jq -r .readiness",
	}, func(store cluster.StatusStore, _ []string) error {
		st, err := store.Load()
		if err != nil {
			return err
		}
		if st.Readiness == cluster.ReadinessUnknown {
			st.Readiness = "unknown"
		}
		if a.output == outputJSON {
			return a.printJSON(struct {
				Readiness cluster.Readiness          `json:"readiness"`
				Kind      cluster.BootstrapErrorKind `json:"kind,omitempty"`
				Reason    string                     `json:"reason,omitempty"`
			}{st.Readiness, st.Kind, st.Reason})
		}
		t := newTable(a.stdout, "READINESS", "REASON")
		t.row(string(st.Readiness), orDash(st.Reason))
		return t.flush()
	})
}

func (a *app) statusClear() *cobra.Command {
	return a.statusVerb(&cobra.Command{
		Use: "clear [FLAGS]", Short: "Forget it, so that the node's next start tries anew", Args: takes(0, 0),
		Long: `Forget the recorded readiness, be it an error, disabled, or a file that is damaged. The next start of the node joins its
cluster as if it were the first.`,
		Example: "  wasilo status clear\n  wasilo status clear --data /var/lib/wasilo",
	}, func(store cluster.StatusStore, _ []string) error { return store.Save(cluster.Status{}) })
}

func (a *app) statusDisable() *cobra.Command {
	return a.statusVerb(&cobra.Command{
		Use: "disable [REASON] [FLAGS]", Short: "Have the node run alone from its next start on", Args: takes(0, 1),
		Long: `Disable the cluster on this node from its next start on: it opens neither link nor gossip, and runs its actors alone, until
wasilo status clear. REASON is for whoever asks later.`,
		Example: `  wasilo status disable "moved to another rack"`,
	}, func(store cluster.StatusStore, args []string) error {
		reason := "wasilo status disable"
		if len(args) > 0 {
			reason = args[0]
		}
		return store.Save(cluster.Status{Readiness: cluster.ReadinessDisabled, Reason: reason})
	})
}
