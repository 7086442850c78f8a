package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
)

func membersSubnetsCommand() *cobra.Command {
	var dir string
	var none, asJSON bool
	cmd := &cobra.Command{
		Use:   "subnets NODE CIDR...",
		Short: "Say which networks behind it a server may advertise",
		Long: `Says, on the gateway that the server joined through, which networks behind it a
server may advertise from now on, in place of those that it might before. The
server asks for what its own configuration has under "advertise"; its agent gets
a new certificate by itself, within the hour at the latest, or when it starts.
With --none it may advertise nothing any more; what it advertises now ends with
its present certificate, or at once by "drawbridge revoke".`,
		Example: `  drawbridge members subnets nas-gate 192.168.20.0/24
  drawbridge members subnets nas-gate --none`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := parseSubnets("network", args[1:])
			if err != nil {
				return usageError(err)
			}
			if none == (len(list) > 0) {
				return usageError(errors.New("give networks, or --none"))
			}
			e, err := enroll.AllowSubnets(dir, args[0], list, history.Person())
			if err != nil {
				return err
			}
			if asJSON {
				return printValue(cmd.OutOrStdout(), struct {
					SchemaVersion int      `json:"schema_version"`
					Node          string   `json:"node"`
					Name          string   `json:"name"`
					Subnets       []string `json:"subnets"`
				}{1, string(e.Node), e.Name, append([]string{}, prefixTexts(e.Subnets)...)})
			}
			may := "nothing any more, from its next certificate on"
			if len(e.Subnets) > 0 {
				may = strings.Join(prefixTexts(e.Subnets), ", ")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s may advertise %s.\n", e.Name, may)
			return err
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "it may advertise nothing any more")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	stateDirFlag(cmd, &dir)
	return cmd
}
