package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func whyCommand() *cobra.Command {
	var (
		asJSON  bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "why NAME",
		Short: "Explain the decision about a node, site or route",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, "/v1/why?subject="+url.QueryEscape(args[0]), asJSON, timeout, renderWhy)
		},
		ValidArgsFunction: completeSubjects,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	timeoutFlag(cmd, &timeout, 10*time.Second)
	return cmd
}

// completeSubjects offers the names of routes, sites and nodes to the shell.
func completeSubjects(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(contextOf(cmd), time.Second)
	defer cancel()
	st, err := clientOf(cmd).Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	add := func(name string) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	for _, r := range st.Routes {
		add(r.Route)
	}
	for _, s := range st.Sites {
		add(s.Site)
	}
	for _, m := range st.Members {
		add(m.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// contextOf is the command's context; completion may come without one.
func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
