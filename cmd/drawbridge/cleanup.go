package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"drawbridge/agent"
)

// cleaned is what `cleanup --json` prints.
type cleaned struct {
	SchemaVersion int      `json:"schema_version"`
	DryRun        bool     `json:"dry_run"`
	Removed       []string `json:"removed"`
}

func cleanupCommand() *cobra.Command {
	var o agent.CleanupOptions
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what a killed agent left behind",
		Long: `Removes the interface with its addresses and routes, and the packet filter table
that an agent made and could not remove because it was killed. It needs no
memory of that agent, and leaves alone what no agent made. It is refused while
the agent runs. The state directory stays, and so does the kernel's forwarding
where a gateway switched it on: others may rely on it by now. Needs root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("interface") {
				settings, err := settingsOf(file, cmd.Flags().Changed("config"))
				if err != nil {
					return err
				}
				o.Interface = settings.Interface
			}
			removed, err := agent.Cleanup(o)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if asJSON {
				raw, err := json.Marshal(cleaned{SchemaVersion: 1, DryRun: o.DryRun, Removed: append([]string{}, removed...)})
				if err != nil {
					return err
				}
				return printRaw(w, raw)
			}
			did := "removed "
			if o.DryRun {
				did = "would remove "
			}
			for _, r := range removed {
				fmt.Fprintln(w, did+r)
			}
			if len(removed) == 0 {
				fmt.Fprintln(w, "clean: no interface", o.Interface, "and no packet filter of ours")
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&file, "config", defaultConfig, "configuration file, for the interface's name")
	fl.StringVar(&o.Interface, "interface", agent.DefaultInterface, "interface of the agent")
	fl.BoolVar(&o.DryRun, "dry-run", false, "only say what would be removed")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	stateDirFlag(cmd, &o.StateDir)
	return cmd
}
