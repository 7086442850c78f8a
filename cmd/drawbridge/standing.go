package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
)

// commandFlags are those of every command to the agent.
type commandFlags struct {
	json    bool
	reason  string
	timeout time.Duration
}

func (f *commandFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	timeoutFlag(cmd, &f.timeout, 20*time.Second)
}

func revokeCommand() *cobra.Command {
	var f commandFlags
	var yes, compromised bool
	var dir string
	cmd := &cobra.Command{
		Use:   "revoke NODE",
		Short: "Put a node out of the mesh for good",
		Long: `Signs, on a gateway, that a node is revoked, and tells every node at once: its
tunnels end everywhere, its records and names are gone, and no gateway renews
it. That holds through restarts of everybody. The host can come back only with
new keys and a new token.

Of a gateway only the gateway itself is revoked: hosts that it certified stay,
and the other gateways renew them. If its keys were stolen, --compromised voids
all that it certified too; those hosts must join again. That takes the root key.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := confirm(cmd, "Revoke "+args[0]+"? Its tunnels end everywhere, and it cannot come back with its keys. Type yes: "); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			if compromised {
				if err := voidIssuer(ctx, cmd, dir, args[0]); err != nil {
					return err
				}
			}
			return f.give(ctx, cmd, "revoke", args[0])
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.reason, "reason", "", "one word for the history (default: operator)")
	fl.BoolVar(&yes, "yes", false, "do not ask")
	fl.BoolVar(&compromised, "compromised", false, "a gateway's keys were stolen: void everything that it certified")
	stateDirFlag(cmd, &dir)
	return cmd
}

func quarantineCommand() *cobra.Command {
	var f commandFlags
	cmd := &cobra.Command{
		Use:               "quarantine NODE",
		Short:             "Set a node apart until it is released",
		Long:              `Tells every node to stop speaking to this one, until` + " `drawbridge release` " + `ends that. Gateways do the same by themselves when two hosts use one identity.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return f.give(ctx, cmd, "quarantine", args[0])
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.reason, "reason", "", "one word for the history (default: operator)")
	return cmd
}

func releaseCommand() *cobra.Command {
	var f commandFlags
	cmd := &cobra.Command{
		Use:               "release NODE",
		Short:             "End a node's quarantine",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeNodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return f.give(ctx, cmd, "release", args[0])
		},
	}
	f.add(cmd)
	return cmd
}

// give gives the agent a command about a node and prints its answer.
func (f *commandFlags) give(ctx context.Context, cmd *cobra.Command, verb, node string) error {
	done, err := clientOf(cmd).Command(ctx, verb, api.Command{Node: node, Reason: f.reason}, history.Person())
	if err != nil {
		return err
	}
	return printDone(cmd, done, f.json)
}

func printDone(cmd *cobra.Command, done api.Done, asJSON bool) error {
	if asJSON {
		return printValue(cmd.OutOrStdout(), done)
	}
	text := done.Text + "."
	if done.Told > 0 {
		text += fmt.Sprintf(" %d living nodes were told.", done.Told)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// voidIssuer voids what a gateway certified, with the root key of dir.
func voidIssuer(ctx context.Context, cmd *cobra.Command, dir, gateway string) error {
	client := clientOf(cmd)
	trust, err := client.Trust(ctx)
	if err != nil {
		return err
	}
	state, err := statedir.Open(dir)
	if err != nil {
		return err
	}
	for _, ca := range trust.CAs {
		if pki.Gateway(ca) != gateway {
			continue
		}
		var notice []byte
		if err := state.Update(func() error {
			notice, err = rootca.RevokeIssuer(state, ca, "compromised", time.Now())
			return err
		}); err != nil {
			return err
		}
		_, err = client.Command(ctx, "notice", api.Command{Notice: notice}, history.Person())
		return err
	}
	return fmt.Errorf("no issuing certificate of a gateway called %q is known: give the gateway's name, as `drawbridge trust` shows it", gateway)
}

// confirm asks a person; where there is none, it says how to go on without.
func confirm(cmd *cobra.Command, question string) error {
	in := cmd.InOrStdin()
	if piped(in) {
		return usageError(errors.New("nobody can be asked here: add --yes"))
	}
	fmt.Fprint(cmd.ErrOrStderr(), question)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && line == "" { // /dev/null
		fmt.Fprintln(cmd.ErrOrStderr())
		return usageError(errors.New("nobody can be asked here: add --yes"))
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

// completeNodes offers the names of members to the shell.
func completeNodes(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(contextOf(cmd), time.Second)
	defer cancel()
	ms, err := clientOf(cmd).Members(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, m := range ms.Members {
		if strings.HasPrefix(m.Name, prefix) {
			names = append(names, m.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
