package lab

import (
	"context"
	"slices"
	"sync"
	"time"

	"drawbridge/agent/api"
)

// Note is one event of one agent's log.
type Note struct {
	Node string
	api.Event
}

// watchEvery is the pace of reading event logs. Figures do not depend on it:
// events carry their own time.
const watchEvery = 100 * time.Millisecond

// watch follows the event logs of some agents.
type watch struct {
	mu    sync.Mutex // guards notes
	notes []Note
}

// run follows the nodes' logs until ctx ends. An agent that does not answer is
// asked again; one that was started again tells its log from the beginning.
func (w *watch) run(ctx context.Context, l *Lab, nodes []Node) {
	var tasks sync.WaitGroup
	for _, n := range nodes {
		tasks.Go(func() { w.follow(ctx, n.Name, l.Agent(n.Name)) })
	}
	tasks.Wait()
}

func (w *watch) follow(ctx context.Context, node string, agent *api.Client) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var since uint64
	for {
		if ev, err := agent.Events(ctx, since); err == nil {
			w.add(node, ev.Events)
			since = ev.Last
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *watch) add(node string, events []api.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		w.notes = append(w.notes, Note{node, e})
	}
}

// since returns the notes from an instant on, by time.
func (w *watch) since(t time.Time) []Note {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Note
	for _, n := range w.notes {
		if !n.At.Before(t) {
			out = append(out, n)
		}
	}
	slices.SortStableFunc(out, func(a, b Note) int { return a.At.Compare(b.At) })
	return out
}

// heard returns the notes that arrived after the first n, and the new count.
func (w *watch) heard(n int) ([]Note, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.notes[n:]), len(w.notes)
}
