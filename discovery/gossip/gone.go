package gossip

import (
	"net/netip"
	"time"

	"drawbridge/discovery"
)

// gone remembers the nodes that were forgotten because Verify refuses them, so
// that one that keeps talking, and those who have not heard yet and keep talking
// of it, cost a look into a map: no question for its chain, no verification of
// it, no search for a stranger. Only a chain that Verify accepts ends that. The
// zero value is empty. The book's lock guards it.
type gone struct {
	nodes  map[discovery.NodeID]lost
	addrs  map[netip.Addr]discovery.NodeID
	chains map[digest]time.Time // when they were refused
}

// lost is what was held of a node.
type lost struct {
	addr  netip.Addr
	chain [][]byte
	at    time.Time // when it was forgotten
}

const (
	goneNodes = 1024 // about 3 MB of chains
	// goneFor is how long whoever speaks from the address is taken for the
	// node that was forgotten. Addresses rest for longer before they are given
	// again.
	goneFor = time.Hour
	// refusedFor is how long a refused chain is not verified again. Recheck
	// ends it.
	refusedFor = time.Minute
)

// add remembers a node; beyond goneNodes any other makes room.
func (o *gone) add(e *entry, now time.Time) {
	if o.nodes == nil {
		o.nodes, o.addrs = map[discovery.NodeID]lost{}, map[netip.Addr]discovery.NodeID{}
	}
	for other := range o.nodes {
		if len(o.nodes) < goneNodes {
			break
		}
		o.remove(other)
	}
	o.nodes[e.id.ID], o.addrs[e.id.Addr] = lost{e.id.Addr, e.chain, now}, e.id.ID
	o.refuse(e.whole, now)
}

// remove is for a node whose chain is accepted again, too.
func (o *gone) remove(id discovery.NodeID) {
	at := o.nodes[id].addr
	delete(o.nodes, id)
	if o.addrs[at] == id {
		delete(o.addrs, at)
	}
}

func (o *gone) has(id discovery.NodeID) bool {
	_, ok := o.nodes[id]
	return ok
}

// refuse remembers a chain that Verify refused.
func (o *gone) refuse(whole digest, now time.Time) {
	if o.chains == nil || len(o.chains) >= maxNodes { // all get another chance
		o.chains = map[digest]time.Time{}
	}
	o.chains[whole] = now
}

func (o *gone) refused(whole digest, now time.Time) bool {
	at, ok := o.chains[whole]
	return ok && now.Sub(at) < refusedFor
}

// wasRefused reports whether the last node at an address that nobody has now
// was forgotten for good reason.
func (b *book) wasRefused(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, ok := b.gone.addrs[a]
	return ok && time.Since(b.gone.nodes[id].at) < goneFor
}
