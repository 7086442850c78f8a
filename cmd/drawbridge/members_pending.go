package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
)

// pendingJSON is a waiting host in the --json forms.
type pendingJSON struct {
	Fingerprint string    `json:"fingerprint"`
	Node        string    `json:"node"`
	Name        string    `json:"name"`
	Site        string    `json:"site"`
	Role        string    `json:"role"`
	Token       string    `json:"token"`
	Caller      string    `json:"caller"`
	From        string    `json:"from"`
	Since       time.Time `json:"since"`
	Until       time.Time `json:"until"`
	State       string    `json:"state"`
	By          string    `json:"by"`
	Subnets     []string  `json:"subnets,omitempty"`
}

func pendingOf(p enroll.PendingInfo) pendingJSON {
	return pendingJSON{
		Fingerprint: p.Fingerprint, Node: string(p.Node), Name: p.Name, Site: p.Site, Role: string(p.Role), Token: p.Token, Caller: p.Caller,
		From: p.From.String(), Since: p.Since.UTC(), Until: p.Until.UTC(), State: p.State, By: p.By,
		Subnets: prefixTexts(p.Subnets),
	}
}

func membersPendingCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "List hosts that wait at this gateway to be let in",
		Long: `Lists hosts that proved a token which asks for approval, and gateways that wait
for the root key. Compare the fingerprint with the one that the host shows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := enroll.ListPending(dir)
			if err != nil && list == nil {
				return err
			}
			return errors.Join(printPending(cmd.OutOrStdout(), list, asJSON), err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	stateDirFlag(cmd, &dir)
	return cmd
}

func printPending(w io.Writer, list []enroll.PendingInfo, asJSON bool) error {
	if asJSON {
		out := struct {
			SchemaVersion int           `json:"schema_version"`
			Pending       []pendingJSON `json:"pending"`
		}{1, []pendingJSON{}}
		for _, p := range list {
			out.Pending = append(out.Pending, pendingOf(p))
		}
		return printValue(w, out)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FINGERPRINT\tNAME\tSITE\tROLE\tFROM\tSUBNETS\tWAITS FOR\tUNTIL")
	for _, p := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Fingerprint, p.Name, p.Site, p.Role, p.From, dash(strings.Join(prefixTexts(p.Subnets), ",")), p.State, p.Until.Local().Format(time.DateTime))
	}
	return tw.Flush()
}

func membersApproveCommand() *cobra.Command {
	return verdictCommand("approve", "Let a waiting host in", enroll.Approve, "is let in: it joins within seconds")
}

func membersRefuseCommand() *cobra.Command {
	return verdictCommand("refuse", "Turn a waiting host away for good", enroll.Refuse, "is turned away")
}

func verdictCommand(verb, short string, decide func(stateDir, who, actor string) (enroll.PendingInfo, error), done string) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   verb + " FINGERPRINT",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := decide(dir, args[0], history.Person())
			if err != nil {
				if errors.Is(err, enroll.ErrNotWaiting) {
					return fmt.Errorf("%w; `drawbridge members pending` shows who does", err)
				}
				return err
			}
			if asJSON {
				return printValue(cmd.OutOrStdout(), struct {
					SchemaVersion int `json:"schema_version"`
					pendingJSON
				}{1, pendingOf(p)})
			}
			if len(p.Subnets) > 0 && verb == "approve" {
				done += ", and may advertise " + strings.Join(prefixTexts(p.Subnets), ", ")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s (%s) %s.\n", p.Name, p.Fingerprint, done)
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var prints []string
			if list, err := enroll.ListPending(dir); err == nil && len(args) == 0 {
				for _, p := range list {
					prints = append(prints, p.Fingerprint)
				}
			}
			return prints, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	stateDirFlag(cmd, &dir)
	return cmd
}
