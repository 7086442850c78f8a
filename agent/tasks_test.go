package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

func TestTasksStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var stopped []string
		g := newTasks(slog.New(slog.DiscardHandler))
		for _, name := range []string{"tunnel", "gossip", "desk"} {
			g.start(ctx, named{name, func(ctx context.Context) error {
				<-ctx.Done()
				stopped = append(stopped, name)
				return nil
			}})
		}
		cancel()
		if err := g.wait(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(stopped) != 0 {
			t.Fatalf("stopped before they were asked: %v", stopped)
		}
		g.stopAll()
		if diff := cmp.Diff([]string{"desk", "gossip", "tunnel"}, stopped); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

func TestTasksFailure(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"with an error", func(context.Context) error { return broken }},
		{"unasked", func(context.Context) error { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newTasks(slog.New(slog.DiscardHandler))
				defer g.stopAll()
				g.start(t.Context(), named{"steady", func(ctx context.Context) error { <-ctx.Done(); return nil }})
				g.start(t.Context(), named{"frail", tt.run})
				if err := g.wait(t.Context()); err == nil {
					t.Fatal("no error although a task ended")
				}
			})
		})
	}
}
