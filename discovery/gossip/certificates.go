package gossip

import (
	"bytes"

	"drawbridge/discovery"
)

// Chains are the certificates held of all members, self included.
func (g *Gossip) Chains() map[discovery.NodeID][][]byte {
	g.book.mu.Lock()
	defer g.book.mu.Unlock()
	out := make(map[discovery.NodeID][][]byte, len(g.book.entries))
	for id, e := range g.book.entries {
		chain := make([][]byte, len(e.chain))
		for i := range e.chain {
			chain[i] = bytes.Clone(e.chain[i])
		}
		out[id] = chain
	}
	return out
}
