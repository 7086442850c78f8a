package gossip

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"time"

	"drawbridge/discovery"
)

// admit verifies a chain and keeps it if its node is new or the certificate
// outlives the one held. A chain that is held already costs no verification.
func (b *book) admit(chain [][]byte) (id discovery.NodeID, added bool, why cause) {
	if id := b.holder(chain); id != "" {
		return id, false, ""
	}
	ident, key, err := b.verify(chain)
	_, good := rawID(ident.ID)
	if err != nil || !good || len(key) != ed25519.PublicKeySize || !b.prefix.Contains(ident.Addr) {
		return "", false, causeForeign
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[ident.ID]
	switch {
	case ident.ID == b.self: // own chain only by SetChain
		return ident.ID, false, ""
	case e == nil && len(b.entries) >= maxNodes:
		return "", false, causeFull
	case e != nil && !ident.NotAfter.After(e.id.NotAfter):
		return ident.ID, false, ""
	}
	b.put(ident, key, chain)
	return ident.ID, true, ""
}

// put keeps a verified chain. The lock is held.
func (b *book) put(ident discovery.Identity, key ed25519.PublicKey, chain [][]byte) {
	e := b.entries[ident.ID]
	known := e != nil
	if !known {
		e = &entry{state: discovery.StateKnown, since: time.Now()}
		b.entries[ident.ID] = e
	}
	e.id, e.key, e.leaf = ident, slices.Clone(key), digestOf(chain[0])
	e.chain = make([][]byte, len(chain))
	for i := range chain {
		e.chain[i] = bytes.Clone(chain[i])
	}
	if known {
		b.index()
		return
	}
	b.claim(e)
}

// index rebuilds who owns which address and certificate. The lock is held.
func (b *book) index() {
	clear(b.owners)
	clear(b.leaves)
	for _, e := range b.entries {
		b.claim(e)
	}
}

// claim enters one node into the index. When a recycled address has two
// owners, the one with the younger certificate has it. The lock is held.
func (b *book) claim(e *entry) {
	b.leaves[e.leaf] = e.id.ID
	held, ok := b.owners[e.id.Addr]
	if !ok || e.id.NotAfter.After(b.entries[held].id.NotAfter) {
		b.owners[e.id.Addr] = e.id.ID
	}
}

// drop forgets nodes; self stays. The lock is held.
func (b *book) drop(ids []discovery.NodeID) {
	for _, id := range ids {
		if id != b.self {
			delete(b.entries, id)
		}
	}
	b.index()
}

// holder is the node whose held chain is exactly this one, or "".
func (b *book) holder(chain [][]byte) discovery.NodeID {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.leaves[digestOf(chain[0])]
	if e := b.entries[id]; e != nil && slices.EqualFunc(e.chain, chain, bytes.Equal) {
		return id
	}
	return ""
}
