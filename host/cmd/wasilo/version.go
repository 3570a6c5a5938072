package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/abi"
)

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: takes(0, 0),
		Long:    `Print the version of this binary, the revision and the Go version it was built with, and the ABI that it speaks.`,
		Example: "  wasilo version\n  wasilo version -o json",
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		v := struct {
			Version  string `json:"version"`
			Revision string `json:"revision,omitempty"`
			Go       string `json:"go"`
			Platform string `json:"platform"`
			ABI      string `json:"abi"`
		}{
			buildVersion(), revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH,
			fmt.Sprintf("%d.%d", abi.Major, abi.Minor),
		}
		if a.output == outputJSON {
			return a.printJSON(v)
		}
		rev := ""
		if v.Revision != "" {
			rev = " (" + v.Revision + ")"
		}
		_, err := fmt.Fprintf(a.stdout, "wasilo %s%s, ABI %s, %s, %s\n", v.Version, rev, v.ABI, v.Go, v.Platform)
		return err
	}
	return cmd
}

// buildVersion is the module's version, "(devel)" for one that was built in its repository.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return ""
}
