package main

import (
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
)

func planCommand() *cobra.Command {
	var (
		asJSON  bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show the AWS calls that this agent would make now",
		Long: `Show the AWS calls that this agent would make now, and why. AWS is read for it,
nothing is changed. Only the leader makes such calls by itself; asked of another
gateway, the plan is what that one would do in its place.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, "/v1/plan", asJSON, timeout, func(p api.Plan) string { return renderPlan(p) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	timeoutFlag(cmd, &timeout, 40*time.Second)
	return cmd
}
