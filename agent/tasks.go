package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// task is anything that lives as long as the agent.
type task interface {
	// Run works until ctx ends, then cleans up and returns nil.
	Run(ctx context.Context) error
	String() string
}

// named makes a task of a function.
type named struct {
	name string
	run  func(ctx context.Context) error
}

func (n named) Run(ctx context.Context) error { return n.run(ctx) }
func (n named) String() string                { return n.name }

// stopPatience bounds how long a task may take to stop; a longer one is
// reported and left.
const stopPatience = 5 * time.Second

// running is one started task.
type running struct {
	task task
	stop context.CancelFunc
	done chan struct{}
}

// tasks starts tasks in order and stops them in reverse.
type tasks struct {
	log     *slog.Logger
	started []running
	failed  chan error
}

func newTasks(log *slog.Logger) *tasks {
	return &tasks{log: log, failed: make(chan error, 1)}
}

// start runs t until stopAll. When t ends by itself, with an error or without,
// Wait returns.
func (g *tasks) start(ctx context.Context, t task) {
	tctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := running{task: t, stop: cancel, done: make(chan struct{})}
	g.started = append(g.started, r)
	go func() {
		defer close(r.done)
		err := t.Run(tctx)
		if tctx.Err() != nil && err == nil {
			return
		}
		if err == nil {
			err = errors.New("ended unasked")
		}
		select {
		case g.failed <- fmt.Errorf("%s: %w", t, err):
		default:
			g.log.Error("task ended", "task", t.String(), "err", err)
		}
	}()
}

// wait blocks until ctx ends (nil) or a task fails.
func (g *tasks) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		return err
	}
}

// stopAll stops in reverse order of starting and waits for each.
func (g *tasks) stopAll() {
	for i := len(g.started) - 1; i >= 0; i-- {
		r := g.started[i]
		r.stop()
		select {
		case <-r.done:
		case <-time.After(stopPatience):
			g.log.Error("task does not stop", "task", r.task.String())
		}
	}
	g.started = nil
}
