package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"drawbridge/agent/api"
	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
)

// leaveWait is how long a stopping agent is waited for.
const leaveWait = 20 * time.Second

func leaveCommand() *cobra.Command {
	var f commandFlags
	var yes bool
	var dir string
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take this host out of the mesh for good",
		Long: `Tells a gateway that this host is to be a member no more, stops the agent, and
removes its keys. Its name is free at once, its address after a day. To come
back the host needs a new token.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				if err := confirm(cmd, "Leave the mesh and remove this host's keys? Type yes: "); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout+leaveWait)
			defer cancel()
			state, err := statedir.Open(dir)
			if err != nil {
				return err
			}
			done, err := clientOf(cmd).Command(ctx, "leave", api.Command{}, history.Person())
			if err != nil {
				return err
			}
			if err := wipe(ctx, state); err != nil {
				return fmt.Errorf("left the mesh, but the keys are still there: %w; they are worthless to others now, remove %s by hand", err, state.Path())
			}
			done.Text += ", and its keys are removed"
			return printDone(cmd, done, f.json)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	stateDirFlag(cmd, &dir)
	return cmd
}

// wipe empties the state directory once the agent has let go of it.
func wipe(ctx context.Context, state *statedir.Dir) error {
	for {
		release, err := state.Lock()
		if err == nil {
			return errors.Join(state.Wipe(), release())
		}
		var held *statedir.LockedError
		if !errors.As(err, &held) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
