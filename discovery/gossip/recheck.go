package gossip

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
)

// Recheck judges chains again, for when the caller's Verify changed its mind: of
// the named nodes, or of all when none is named. A node that is refused is
// forgotten at once, alive or not, and stays forgotten until Verify accepts a
// chain of it; one that was forgotten and is accepted now is held again. All
// takes as many verifications as there are nodes.
func (g *Gossip) Recheck(nodes ...discovery.NodeID) {
	again := g.book.reconsider(nodes)
	if len(nodes) == 0 {
		for _, m := range g.book.members() {
			nodes = append(nodes, m.ID)
		}
	}
	g.recheck(nodes)
	for _, chain := range again {
		if id, added, _ := g.book.admit(chain); added {
			g.log.Info("node accepted again", "node", id)
			g.wake(g.changed)
		}
	}
}

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
		}
		var away []discovery.NodeID
		for _, m := range g.book.members() {
			if !living(m.State) {
				away = append(away, m.ID)
			}
		}
		g.recheck(away)
	}
}

func (g *Gossip) recheck(nodes []discovery.NodeID) {
	var gone []discovery.NodeID
	for _, id := range nodes {
		chain := g.book.chain(id)
		if chain == nil || id == g.opt.Self.ID {
			continue
		}
		if _, _, err := g.opt.Verify(chain); err != nil {
			gone = append(gone, id)
			g.log.Info("node forgotten", "node", id, "err", err)
		}
	}
	if len(gone) == 0 {
		return
	}
	g.book.mu.Lock()
	dropped := g.book.drop(gone)
	g.book.mu.Unlock()
	for _, e := range dropped {
		g.count.add(countForgotten, 1)
		g.needs.settle(e.id.ID)
		g.queue.QueueBroadcast(&broadcast{name: string(e.id.ID)}) // nothing, in the place of its record
		g.bury(e)
	}
	g.wake(g.changed)
}

// bury lets memberlist hear that a forgotten node left, so that it neither
// probes nor tells it anything any more. Where the node is not forgotten yet it
// is taken for left until it speaks.
func (g *Gossip) bury(e *entry) {
	g.mu.Lock()
	t := g.live
	g.mu.Unlock()
	if t == nil || !living(e.state) {
		return
	}
	id := string(e.id.ID)
	m := message{Type: msgDead, Node: id, From: id, Incarnation: e.top}
	at := netip.AddrPortFrom(g.opt.Self.Addr, g.opt.Port)
	t.deliver([][]byte{m.bytes()}, at, time.Now())
}

// chain is the held chain of a node, or nil. Chains are never changed in place.
func (b *book) chain(id discovery.NodeID) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		return e.chain
	}
	return nil
}

// reconsider forgets what was refused and declined under an earlier judgement,
// and returns the chains of the named nodes that are gone; nil names all.
func (b *book) reconsider(nodes []discovery.NodeID) [][][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone.chains = nil
	for _, e := range b.entries {
		e.declined, e.asked = digest{}, time.Time{}
	}
	var chains [][][]byte
	for id, l := range b.gone.nodes {
		if nodes == nil || slices.Contains(nodes, id) {
			chains = append(chains, l.chain)
		}
	}
	return chains
}
