package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/enroll"
	"drawbridge/agent/pki"
	"drawbridge/discovery"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create, list and revoke tokens that bring hosts into the mesh",
		Long: `A token is good at the gateway that made it, for the site and role it was made
for, as often as --uses says, until it expires. It carries a pin of the mesh
root, so that a joining host cannot be deceived by a false gateway. The gateway
keeps only what it needs to check one: a lost token cannot be printed again.`,
	}
	cmd.AddCommand(tokenCreateCommand(), tokenListCommand(), tokenRevokeCommand())
	return cmd
}

func tokenCreateCommand() *cobra.Command {
	var o enroll.TokenOptions
	var role, dir string
	var sources, subnets []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create --site SITE",
		Short: "Create a token on this gateway and print it",
		Long: `Prints the token, and nothing else, on standard output. Whoever has it can bring
one host into the mesh: hand it over as you would a password.`,
		Example: `  drawbridge token create --site idc-seoul | ssh gpu-1 sudo drawbridge join
  drawbridge token create --site aws --role gateway --ttl 15m
  drawbridge token create --site idc-seoul --name 'gpu-*' --source 198.51.100.0/24 --require-approval
  drawbridge token create --site idc-seoul --name gpu-7 --replace
  drawbridge token create --site idc-seoul --name nas-gate --subnets 192.168.20.0/24`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Site == "" {
				return usageError(errors.New("--site is needed"))
			}
			o.Role = discovery.Role(role)
			var err error
			if o.Sources, err = parseSources(sources); err != nil {
				return usageError(err)
			}
			if o.Subnets, err = parseSubnets("--subnets", subnets); err != nil {
				return usageError(err)
			}
			text, err := enroll.CreateToken(dir, o)
			if err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprintln(cmd.OutOrStdout(), text)
				return nil
			}
			return printToken(cmd.OutOrStdout(), text, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Site, "site", "", "site of the hosts that join with it")
	f.StringVar(&role, "role", string(discovery.RoleServer), "server or gateway")
	f.DurationVar(&o.TTL, "ttl", enroll.DefaultTTL, "how long it is good, at most "+enroll.MaxTTL.String())
	f.IntVar(&o.Uses, "uses", 1, "how many hosts may join with it")
	f.StringArrayVar(&o.Addrs, "addr", nil, "HOST:PORT where joining hosts reach this gateway by TCP; repeatable (default: what its agent tells the mesh, or the endpoints given to init or join)")
	f.StringArrayVar(&o.Names, "name", nil, "GLOB that the names of its hosts must fit, for example 'gpu-*'; repeatable (default: any)")
	f.StringArrayVar(&sources, "source", nil, "CIDR that its hosts must come from, as this gateway sees them; repeatable (default: any)")
	f.StringSliceVar(&subnets, "subnets", nil, "CIDR behind its hosts that these may advertise, for machines without an agent; repeatable (default: none)")
	f.BoolVar(&o.Ephemeral, "ephemeral", false, "its hosts are taken off the mesh when they are gone")
	f.BoolVar(&o.Approval, "require-approval", false, "its hosts wait until somebody approves them (drawbridge members approve)")
	f.BoolVar(&o.Replace, "replace", false, "its hosts may take the name of one that is not there, which is revoked then: for a rebuilt host")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	stateDirFlag(cmd, &dir)
	return cmd
}

// parseSources reads networks; a single address is one.
func parseSources(texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("--source %q: want a network such as 198.51.100.0/24", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		list = append(list, p)
	}
	return list, nil
}

// parseSubnets reads the networks behind a host.
func parseSubnets(flag string, texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s %q: want a network such as 192.168.20.0/24", flag, s)
		}
		list = append(list, p)
	}
	return list, nil
}

// tokenJSON is what the --json forms print. Token is empty in lists.
type tokenJSON struct {
	SchemaVersion int       `json:"schema_version,omitempty"`
	Token         string    `json:"token,omitempty"`
	ID            string    `json:"id"`
	Site          string    `json:"site"`
	Role          string    `json:"role"`
	Expires       time.Time `json:"expires"`
	Uses          int       `json:"uses"`
	State         string    `json:"state,omitempty"`
	Addrs         []string  `json:"addrs,omitempty"`
	Nodes         []string  `json:"nodes,omitempty"`
	Waiting       []string  `json:"waiting,omitempty"`
	Names         []string  `json:"names,omitempty"`
	Sources       []string  `json:"sources,omitempty"`
	Ephemeral     bool      `json:"ephemeral,omitempty"`
	Approval      bool      `json:"require_approval,omitempty"`
	Replace       bool      `json:"replace,omitempty"`
	Subnets       []string  `json:"subnets,omitempty"`
}

func printToken(w io.Writer, text string, o enroll.TokenOptions) error {
	t, err := pki.ParseToken(text)
	if err != nil {
		return fmt.Errorf("read own token: %w", err)
	}
	return printValue(w, tokenJSON{
		SchemaVersion: 1, Token: text, ID: t.ID, Site: t.Site, Role: string(t.Role), Expires: t.Expires, Uses: o.Uses, Addrs: t.Addrs,
		Names: o.Names, Sources: prefixTexts(o.Sources), Ephemeral: o.Ephemeral, Approval: o.Approval, Replace: o.Replace,
		Subnets: prefixTexts(o.Subnets),
	})
}

func printValue(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return printRaw(w, raw)
}

func tokenListCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tokens of this gateway",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := enroll.ListTokens(dir)
			if err != nil && list == nil {
				return err
			}
			// A damaged file does not hide the others.
			return errors.Join(printTokens(cmd.OutOrStdout(), list, asJSON, time.Now()), err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	stateDirFlag(cmd, &dir)
	return cmd
}

func printTokens(w io.Writer, list []enroll.TokenInfo, asJSON bool, now time.Time) error {
	if asJSON {
		out := struct {
			SchemaVersion int         `json:"schema_version"`
			Tokens        []tokenJSON `json:"tokens"`
		}{1, []tokenJSON{}}
		for _, t := range list {
			out.Tokens = append(out.Tokens, tokenJSON{
				ID: t.ID, Site: t.Site, Role: string(t.Role), Expires: t.Expires, Uses: t.Uses, State: tokenState(t, now), Nodes: t.Nodes,
				Waiting: t.Waiting, Names: t.Names, Sources: prefixTexts(t.Sources), Ephemeral: t.Ephemeral, Approval: t.Approval, Replace: t.Replace,
				Subnets: prefixTexts(t.Subnets),
			})
		}
		return printValue(w, out)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "ID\tSITE\tROLE\tSTATE\tUSED\tEXPIRES\tTERMS\tNODES")
	for _, t := range list {
		nodes := slices.Clone(t.Nodes)
		for _, name := range t.Waiting {
			nodes = append(nodes, name+"?") // waits
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", t.ID, t.Site, t.Role, tokenState(t, now), len(nodes), t.Uses,
			t.Expires.Local().Format(time.DateTime), dash(tokenTerms(t)), dash(strings.Join(nodes, ",")))
	}
	return tw.Flush()
}

// tokenTerms are the limits of a token, in few words.
func tokenTerms(t enroll.TokenInfo) string {
	var terms []string
	if len(t.Names) > 0 {
		terms = append(terms, "name="+strings.Join(t.Names, "|"))
	}
	if len(t.Sources) > 0 {
		terms = append(terms, "from="+strings.Join(prefixTexts(t.Sources), "|"))
	}
	if len(t.Subnets) > 0 {
		terms = append(terms, "subnets="+strings.Join(prefixTexts(t.Subnets), "|"))
	}
	for _, x := range []struct {
		yes  bool
		word string
	}{{t.Ephemeral, "ephemeral"}, {t.Approval, "approval"}, {t.Replace, "replace"}} {
		if x.yes {
			terms = append(terms, x.word)
		}
	}
	return strings.Join(terms, ",")
}

func prefixTexts(list []netip.Prefix) []string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return texts
}

// tokenState is one of: good, used, expired, revoked.
func tokenState(t enroll.TokenInfo, now time.Time) string {
	switch {
	case t.Revoked:
		return "revoked"
	case len(t.Nodes)+len(t.Waiting) >= t.Uses:
		return "used"
	case now.After(t.Expires):
		return "expired"
	}
	return "good"
}

func tokenRevokeCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Make a token worthless; hosts that joined with it stay",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.HasPrefix(args[0], "dbt") {
				return usageError(errors.New("give the id of the token (drawbridge token list), not the token: command lines are visible to others"))
			}
			if err := enroll.RevokeToken(dir, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Token %s is revoked. Hosts that joined with it stay.\n", args[0])
			return nil
		},
	}
	stateDirFlag(cmd, &dir)
	return cmd
}
