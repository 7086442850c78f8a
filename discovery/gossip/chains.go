package gossip

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"time"

	"drawbridge/discovery"
)

// admit verifies a chain and keeps it if its node is new, the certificate
// outlives the one held, or Prefer wants it. A chain that is held already, or
// was refused a moment ago, costs no verification.
func (b *book) admit(chain [][]byte) (id discovery.NodeID, added bool, why cause) {
	whole := wholeOf(chain)
	if id, why := b.decided(chain, whole); id != "" || why != "" {
		return id, false, why
	}
	ident, key, err := b.verify(chain)
	_, good := rawID(ident.ID)
	if err != nil || !good || len(key) != ed25519.PublicKeySize || !b.prefix.Contains(ident.Addr) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.gone.refuse(whole, time.Now())
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
	case e != nil && !ident.NotAfter.After(e.id.NotAfter) && !b.preferred(e, ident, chain, whole):
		return ident.ID, false, ""
	}
	b.put(ident, key, chain)
	return ident.ID, true, ""
}

// preferred asks Prefer about a chain that does not end later than the held one.
// The lock is held, and is given up while Prefer thinks.
func (b *book) preferred(e *entry, ident discovery.Identity, chain [][]byte, whole digest) bool {
	same := e.leaf == digestOf(chain[0]) || ident.NotAfter.Equal(e.id.NotAfter)
	if b.prefer == nil || !same || whole == e.whole {
		return false
	}
	held, was := e.chain, e.whole
	b.mu.Unlock()
	yes := b.prefer(held, chain)
	b.mu.Lock()
	if b.entries[ident.ID] != e || e.whole != was { // another was faster: next time
		return false
	}
	if !yes {
		e.declined = whole
	}
	return yes
}

// decided answers for a chain that needs no verification: the node that holds
// or declined it, or why it is refused. Both empty: it has to be verified.
func (b *book) decided(chain [][]byte, whole digest) (discovery.NodeID, cause) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.leaves[digestOf(chain[0])]
	if e := b.entries[id]; e != nil && (whole == e.declined || slices.EqualFunc(e.chain, chain, bytes.Equal)) {
		return id, ""
	}
	if b.gone.refused(whole, time.Now()) {
		return "", causeRefused
	}
	return "", ""
}

// The least time between two questions for a chain that a record names, while
// the record stays the same: who tells it may lack the chain too. The same leaf
// under another issuer is less urgent.
const (
	askAgain      = 20 * time.Second
	askWholeAgain = 5 * time.Minute
)

// mayAsk reports whether to ask for a missed chain again.
func (e *entry) mayAsk(now time.Time) bool {
	wait := askAgain
	if e.rec.Leaf == e.leaf {
		wait = askWholeAgain
	}
	if now.Sub(e.asked) < wait {
		return false
	}
	e.asked = now
	return true
}

// outdated reports whether the newest record names a chain that is not held. The
// lock is held.
func (b *book) outdated(e *entry) bool {
	if e.rec.Leaf != e.leaf {
		return true
	}
	w := e.rec.Whole
	return b.prefer != nil && w != digest{} && w != e.whole && w != e.declined
}

// put keeps a verified chain. The lock is held.
func (b *book) put(ident discovery.Identity, key ed25519.PublicKey, chain [][]byte) {
	e := b.entries[ident.ID]
	known := e != nil
	if !known {
		e = &entry{state: discovery.StateKnown, since: time.Now()}
		b.entries[ident.ID] = e
	}
	b.gone.remove(ident.ID)
	e.id, e.key, e.leaf, e.whole = ident, slices.Clone(key), digestOf(chain[0]), wholeOf(chain)
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

// drop forgets nodes for the reason that Verify refuses them; self stays. It
// returns what was held of them. The lock is held.
func (b *book) drop(ids []discovery.NodeID) []*entry {
	var dropped []*entry
	for _, id := range ids {
		e := b.entries[id]
		if e == nil || id == b.self {
			continue
		}
		delete(b.entries, id)
		b.gone.add(e, time.Now())
		dropped = append(dropped, e)
	}
	b.index()
	return dropped
}
