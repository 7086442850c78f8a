package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
)

type memberFilter struct {
	name, site, state string // name is a glob; "" is any
}

func membersCommand() *cobra.Command {
	var (
		filter  memberFilter
		asJSON  bool
		header  bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the nodes of the mesh",
		Long: `List the nodes of the mesh as this agent sees them.

STATE is the gossip's word: known (a verified record, not heard yet), alive,
suspect, dead, left; or quarantined, when nobody may speak to it. PATH is how
packets travel: direct to an endpoint, via another node, by a stream (over TLS,
where UDP is blocked), or none.`,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if _, err := path.Match(filter.name, ""); err != nil {
				return fmt.Errorf("--name %q: %w", filter.name, err)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			ms, err := clientOf(cmd).Members(ctx)
			if err != nil {
				return err
			}
			ms.Members = slices.DeleteFunc(ms.Members, func(m api.Member) bool { return !filter.keeps(m) })
			out := cmd.OutOrStdout()
			if asJSON {
				raw, err := json.Marshal(ms)
				if err != nil {
					return fmt.Errorf("encode members: %w", err)
				}
				return printRaw(out, raw)
			}
			if _, err := io.WriteString(out, renderMembers(ms.Members, header, painterFor(out))); err != nil {
				return fmt.Errorf("print members: %w", err)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	fl.StringVar(&filter.name, "name", "", "only names that match this glob")
	fl.StringVar(&filter.site, "site", "", "only nodes of this site")
	fl.StringVar(&filter.state, "state", "", "only nodes in this state")
	fl.BoolVar(&header, "header", true, "print the line of column names")
	timeoutFlag(cmd, &timeout, 10*time.Second)
	cmd.AddCommand(membersPendingCommand(), membersApproveCommand(), membersRefuseCommand(), membersSubnetsCommand())
	return cmd
}

func (f memberFilter) keeps(m api.Member) bool {
	if f.name != "" {
		if ok, err := path.Match(f.name, m.Name); err != nil || !ok {
			return false
		}
	}
	return (f.site == "" || f.site == m.Site) && (f.state == "" || f.state == m.State)
}
