package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
)

// socketEnv names the agent's socket unless --socket does.
const socketEnv = "DRAWBRIDGE_SOCKET"

// commands makes every verb, in the order of the help.
var commands = []func() *cobra.Command{
	initCommand, tokenCommand, joinCommand, leaveCommand, agentCommand,
	statusCommand, membersCommand, whyCommand, planCommand,
	revokeCommand, quarantineCommand, releaseCommand, trustCommand, rootCommand,
	historyCommand, configCommand, cleanupCommand, labCommand, versionCommand,
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultCompletionCmd()
	began := false
	prepare(root, &began)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !began {
		// What goes wrong before a verb begins is how it was called.
		err = usageError(err)
	}
	report(stderr, cmd.CommandPath(), err)
	return exitCode(err)
}

// newRoot makes the tree of verbs.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "drawbridge",
		Short: "A mesh-VPN sidecar agent for hybrid routing",
		Long: `Drawbridge joins servers in a machine room and hosts in AWS to one WireGuard
overlay, publishes healthy services to a load balancer, and moves its weight
within seconds when a whole site goes dark.

` + exitHelp,
		Version:       buildVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("socket", api.DefaultSocket, "socket of the agent; also $"+socketEnv)
	for _, command := range commands {
		root.AddCommand(command())
	}
	return root
}

// prepare makes every verb say when it begins, and every group of verbs refuse
// a name that it does not have: cobra alone would print help and succeed.
func prepare(cmd *cobra.Command, began *bool) {
	for _, c := range cmd.Commands() {
		prepare(c, began)
	}
	switch {
	case cmd.RunE != nil:
		run := cmd.RunE
		cmd.RunE = func(c *cobra.Command, args []string) error { *began = true; return run(c, args) }
	case cmd.Run != nil:
		run := cmd.Run
		cmd.Run = func(c *cobra.Command, args []string) { *began = true; run(c, args) }
	case cmd.HasParent() && cmd.HasSubCommands():
		cmd.Args = noSuchVerb
		cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
}

// noSuchVerb refuses arguments of a group of verbs, with a suggestion.
func noSuchVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2 // letters wrong; cobra's own, for verbs of the root
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		msg += "\n\nDid you mean this?\n\t" + strings.Join(near, "\n\t") + "\n"
	}
	return errors.New(msg)
}

// clientOf makes the client that the flags ask for: flag, then environment,
// then default.
func clientOf(cmd *cobra.Command) *api.Client { return api.NewClient(socketOf(cmd)) }

func socketOf(cmd *cobra.Command) string {
	f := cmd.Flags().Lookup("socket")
	if f == nil {
		return api.DefaultSocket
	}
	if env := os.Getenv(socketEnv); env != "" && !f.Changed {
		return env
	}
	return f.Value.String()
}
