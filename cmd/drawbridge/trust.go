package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
)

func trustCommand() *cobra.Command {
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Show roots, certificates, revocations and quarantine",
		Long: `Shows the roots that this node trusts, whose certificate rests on which of them
and until when, and what was said against nodes. In a rotation of roots it shows
who lags behind: TRUSTS is the number of the set of roots that a node trusts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, "/v1/trust", asJSON, timeout, func(t api.Trust) string { return renderTrust(t, time.Now()) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	timeoutFlag(cmd, &timeout, 10*time.Second)
	return cmd
}

func renderTrust(t api.Trust, now time.Time) string {
	var b strings.Builder
	for _, r := range t.Roots {
		word := "trusted"
		if r.Current {
			word = "current"
		}
		fmt.Fprintf(&b, "root %s  %s, until %s\n", r.Pin, word, r.NotAfter.Format(time.DateOnly))
	}
	fmt.Fprintf(&b, "set of roots: %d\n\n", t.Epoch)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tCERTIFIED BY\tRENEWED BY\tENDS IN\tROOT\tTRUSTS")
	for _, c := range t.Certificates {
		left := "ended"
		if d := c.NotAfter.Sub(now); d > 0 {
			left = span(d)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\n", c.Name, dash(c.Issuer), dash(c.Renewer), left, dash(shortPin(c.RootPin)), c.Epoch)
	}
	_ = tw.Flush() // into memory
	if len(t.Notices) == 0 {
		b.WriteString("\nNobody is revoked or in quarantine.\n")
		return b.String()
	}
	b.WriteString("\n")
	fmt.Fprintln(tw, "WHEN\tWHAT\tNODE\tREASON\tBY")
	for _, n := range t.Notices {
		name := n.Name
		if name == "" {
			name = n.Node
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", n.At.Local().Format(time.DateTime), n.Kind, dash(name), dash(n.Reason), n.By)
	}
	_ = tw.Flush()
	return b.String()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortPin keeps a table narrow.
func shortPin(pin string) string {
	_, hex, _ := strings.Cut(pin, ":")
	return hex[:min(8, len(hex))]
}
