package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"drawbridge/discovery"
)

// tellPause keeps introductions well within what a peer answers (askRate).
const tellPause = 500 * time.Millisecond

// Introduce tells the mesh of a node whose certificate was just issued here:
// the gateways at once, the others by push/pull.
func (g *Gossip) Introduce(chain [][]byte) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("gossip: introduce chain of %d certificates, want 1-%d", len(chain), maxChain)
	}
	it := item{chain: chain}
	if why := g.merge(it, netip.Addr{}); why != "" {
		return fmt.Errorf("gossip: introduce node: chain refused: %s", why)
	}
	g.mu.Lock()
	if len(g.tell) < maxNodes {
		g.tell = append(g.tell, it)
	}
	g.mu.Unlock()
	g.wake(g.told)
	return nil
}

// introduce sends waiting introductions to the other gateways.
func (g *Gossip) introduce(ctx context.Context, t *transport) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.told:
		}
		g.mu.Lock()
		items := g.tell
		g.tell = nil
		g.mu.Unlock()
		frames := g.frames(items)
		var wg sync.WaitGroup
		for _, m := range g.Members() {
			if m.ID == g.opt.Self.ID || m.Role != discovery.RoleGateway || m.State == discovery.StateLeft {
				continue
			}
			wg.Go(func() {
				for _, f := range frames {
					if _, err := t.call(m.Addr, f); err != nil {
						g.log.Debug("introduction not told", "peer", m.Addr, "err", err)
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellPause): // what comes meanwhile goes together
		}
	}
}

// frames packs items into frames that a stream carries.
func (g *Gossip) frames(items []item) [][]byte {
	var list [][]byte
	f := frame(g.tag, kindItems)
	for _, it := range items {
		if len(f) > maxState {
			list, f = append(list, f), frame(g.tag, kindItems)
		}
		f = appendItem(f, it)
	}
	return append(list, f)
}
