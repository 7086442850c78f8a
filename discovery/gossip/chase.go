package gossip

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"drawbridge/discovery"
)

// Chains do not fit beside records into a datagram, so a record may come from
// somebody whom this node cannot verify yet. Then it asks the one who told.

const (
	maxNeeds        = maxNodes
	maxNeedsPerPeer = 512
	needTries       = 4
)

// need is a version of a node that a peer has and this node has not.
type need struct {
	id    discovery.NodeID
	seq   uint64 // wanted record, 0: any
	leaf  digest // wanted certificate, zero: any
	whole digest // wanted chain, zero: any
	from  netip.Addr

	tries int
	due   time.Time
	alive []byte // what was said of the node before it could be believed
}

// needs is safe for concurrent use.
type needs struct {
	mu    sync.Mutex // guards the fields below
	open  map[discovery.NodeID]*need
	peers map[netip.Addr]int
	wake  chan struct{}
}

func newNeeds() *needs {
	return &needs{
		open:  map[discovery.NodeID]*need{},
		peers: map[netip.Addr]int{},
		wake:  make(chan struct{}, 1),
	}
}

// add notes a need, or raises the one there is.
func (n *needs) add(w need) {
	if _, ok := rawID(w.id); !ok || !w.from.IsValid() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.open[w.id]; old != nil {
		if w.alive != nil {
			old.alive = w.alive
		}
		if w.seq > old.seq {
			old.seq = w.seq
		}
		if w.leaf != (digest{}) {
			old.leaf, old.whole = w.leaf, w.whole
		}
		return
	}
	if len(n.open) >= maxNeeds || n.peers[w.from] >= maxNeedsPerPeer {
		return
	}
	n.open[w.id] = &w
	n.peers[w.from]++
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// settle ends a need and returns it; the zero need if there was none.
func (n *needs) settle(id discovery.NodeID) need {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.open[id]
	if w == nil {
		return need{}
	}
	n.close(w)
	return *w
}

// close forgets a need. The lock is held.
func (n *needs) close(w *need) {
	delete(n.open, w.id)
	if n.peers[w.from]--; n.peers[w.from] <= 0 {
		delete(n.peers, w.from)
	}
}

// due takes what is to be asked now, by peer, at most maxWants of each; what
// is satisfied, and what was asked for often enough, is forgotten. Every second
// time it is the node itself that is asked, if its home is known: who told may
// lack the same chain.
func (n *needs) due(now time.Time, satisfied func(need) bool, home func(discovery.NodeID) netip.Addr) map[netip.Addr][]discovery.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	ask := map[netip.Addr][]discovery.NodeID{}
	for _, w := range n.open {
		at := w.from
		if w.tries%2 == 1 {
			if a := home(w.id); a.IsValid() {
				at = a
			}
		}
		switch {
		case satisfied(*w):
			n.close(w)
		case now.Before(w.due) || len(ask[at]) >= maxWants:
		case w.tries >= needTries:
			n.close(w)
		default:
			w.due = now.Add(time.Second << w.tries)
			w.tries++
			ask[at] = append(ask[at], w.id)
		}
	}
	return ask
}

// chase asks peers for what they have and this node needs, until ctx ends.
func (g *Gossip) chase(ctx context.Context, t *transport) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.needs.wake:
		}
		ask := g.needs.due(time.Now(), func(w need) bool {
			return w.alive == nil && g.book.satisfies(w)
		}, func(id discovery.NodeID) netip.Addr {
			who, _ := g.book.identity(id)
			return who.Addr
		})
		var wg sync.WaitGroup
		for from, ids := range ask {
			wg.Go(func() { g.want(t, from, ids) })
		}
		wg.Wait()
	}
}

func (g *Gossip) want(t *transport, from netip.Addr, ids []discovery.NodeID) {
	g.count.add(countWantsSent, 1)
	b, err := t.call(from, appendWant(frame(g.tag, kindWant), ids))
	if err != nil {
		g.log.Debug("want not answered", "peer", from, "err", err)
		return
	}
	g.take(b, from)
}
