package gossip

import (
	"context"
	"time"

	"drawbridge/discovery"
)

// Recheck judges every held chain again, for when the caller's Verify changed
// its mind: a revoked node is forgotten at once, alive or not.
func (g *Gossip) Recheck() { g.recheck(true) }

// prune forgets nodes that are not alive and whose certificates are no longer
// accepted. A living node is never forgotten because of a clock.
func (g *Gossip) prune(ctx context.Context) {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.recheck(false)
		}
	}
}

func (g *Gossip) recheck(alive bool) {
	var gone []discovery.NodeID
	for _, m := range g.book.members() {
		if m.ID == g.opt.Self.ID || !alive && living(m.State) {
			continue
		}
		for _, it := range g.book.items([]discovery.NodeID{m.ID}, true) {
			if _, _, err := g.opt.Verify(it.chain); err != nil {
				gone = append(gone, m.ID)
				g.log.Info("node forgotten", "node", m.ID, "err", err)
			}
		}
	}
	if len(gone) == 0 {
		return
	}
	g.book.mu.Lock()
	g.book.drop(gone)
	g.book.mu.Unlock()
	g.wake(g.changed)
}
