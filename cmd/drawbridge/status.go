package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
)

type statusFlags struct {
	json     bool
	check    string
	watch    bool
	interval time.Duration
	timeout  time.Duration
}

func statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this agent, its members, sites, routes and health",
		Long: `Show this agent, its members, sites, routes and health, the worst finding first.

The exit code is 4 when the agent is degraded, or when --check is false. A check
of "live" asks whether the agent answers, one of "ready" whether it can carry
traffic; having an address is not being ready.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.check != "":
				return runCheck(cmd, f)
			case f.watch:
				return watchStatus(cmd, f)
			}
			return runStatus(cmd, f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.json, "json", false, "print JSON")
	fl.StringVar(&f.check, "check", "", "only check: live or ready")
	fl.BoolVarP(&f.watch, "watch", "w", false, "print again and again, until interrupted")
	fl.DurationVar(&f.interval, "interval", 2*time.Second, "between two prints of --watch")
	timeoutFlag(cmd, &f.timeout, 10*time.Second)
	cmd.MarkFlagsMutuallyExclusive("json", "watch")
	cmd.MarkFlagsMutuallyExclusive("check", "watch")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if f.check != "" && f.check != "live" && f.check != "ready" {
			return fmt.Errorf("--check is live or ready, not %q", f.check)
		}
		if f.interval < 100*time.Millisecond {
			return fmt.Errorf("--interval %s is too short; the least is 100ms", f.interval)
		}
		return nil
	}
	return cmd
}

// timeoutFlag adds --timeout, after which a verb gives up with exit code 5.
func timeoutFlag(cmd *cobra.Command, d *time.Duration, def time.Duration) {
	cmd.Flags().DurationVar(d, "timeout", def, "give up after this long")
}

func runStatus(cmd *cobra.Command, f statusFlags) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	var st api.Status
	raw, err := fetch(ctx, cmd, "/v1/status", &st)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.json {
		err = printRaw(out, raw)
	} else {
		_, err = io.WriteString(out, renderStatus(st, painterFor(out)))
	}
	if err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	if st.Self.State == api.StateDegraded {
		return &exitError{code: exitDegraded}
	}
	return nil
}

func runCheck(cmd *cobra.Command, f statusFlags) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	path := map[string]string{"live": "/livez", "ready": "/readyz"}[f.check]
	var c api.Check
	raw, err := fetch(ctx, cmd, path, &c)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.json {
		err = printRaw(out, raw)
	} else {
		_, err = io.WriteString(out, renderCheck(f.check, c))
	}
	if err != nil {
		return fmt.Errorf("print check: %w", err)
	}
	if !c.OK {
		return &exitError{code: exitDegraded}
	}
	return nil
}

// watchStatus prints until interrupted. An agent that restarts meanwhile is
// waited for: its absence is printed like any other state.
func watchStatus(cmd *cobra.Command, f statusFlags) error {
	out := cmd.OutOrStdout()
	p := painterFor(out)
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
		st, err := clientOf(cmd).Status(ctx)
		cancel()
		if cmd.Context().Err() != nil {
			return nil
		}
		text := p.clear()
		if err != nil {
			text += err.Error() + "\n"
		} else {
			text += renderStatus(st, p)
		}
		if _, err := io.WriteString(out, text); err != nil {
			return fmt.Errorf("print status: %w", err)
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}
