package gossip

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Whoever misses the datagrams of a notice learns from its next push/pull that
// the other holds others, and fetches them. Both do so.
const (
	maxAnswer   = 1 << 20 // bytes of notices in one answer: 10 s at 0.8 Mbit/s
	fetchRounds = 8       // answers in a row while they bring news
	weighRounds = 4       // through one answer, likewise
	fetchPause  = 5 * time.Second
	fetchersMax = 8 // peers at once
	// hintSpread keeps a whole mesh from asking the same node at once.
	hintSpread = time.Second

	// What brought no news is not tried again while both hold the same, and
	// otherwise at a bounded pace for each peer.
	idleFor   = 10 * time.Minute
	idleBurst = 16
	idleRate  = 1.0 / 30 // per second
)

// fetches are wishes to fetch from peers. It is safe for concurrent use.
type fetches struct {
	wake chan struct{}

	mu    sync.Mutex // guards the fields below
	peers map[netip.Addr]*fetch
	busy  int
}

// fetch is the dealing with one peer.
type fetch struct {
	due  time.Time // zero: nothing wanted
	pair [2]string // what the peer and this node hold, when it was wanted
	busy bool
	last time.Time
	idle [2]string // pair of the newest fetch that brought no news
	vain bucket    // fetches that brought none
}

// wanted reports whether the peer will be asked anyway.
func (f *fetches) wanted(from netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[from]
	return p != nil && !p.due.IsZero()
}

// add notes that a peer holds other notices than this node.
func (f *fetches) add(from netip.Addr, theirs, ours []byte, now time.Time, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peers == nil || len(f.peers) > maxNodes {
		f.peers = map[netip.Addr]*fetch{}
	}
	p := f.peers[from]
	if p == nil {
		p = &fetch{}
		f.peers[from] = p
	}
	pair := [2]string{string(theirs), string(ours)}
	if !p.due.IsZero() || pair == p.idle && now.Sub(p.last) < idleFor {
		return
	}
	p.pair, p.due = pair, now.Add(delay)
	if next := p.last.Add(fetchPause); p.due.Before(next) {
		p.due = next
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// start takes the peers to fetch from now.
func (f *fetches) start(now time.Time) []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []netip.Addr
	for at, p := range f.peers {
		if p.due.IsZero() || p.busy || now.Before(p.due) || f.busy == fetchersMax {
			continue
		}
		p.due = time.Time{}
		if !p.vain.take(now, idleBurst, idleRate) {
			p.last = now
			continue
		}
		p.busy, p.last = true, now
		f.busy++
		list = append(list, at)
	}
	return list
}

// end notes what a fetch brought.
func (f *fetches) end(from netip.Addr, news bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	p := f.peers[from]
	if p == nil { // forgotten meanwhile
		return
	}
	p.busy, p.last, p.idle = false, now, p.pair
	if news {
		p.idle = [2]string{}
		p.vain.give()
	}
}

// compare takes what a peer tells of its notices.
func (g *Gossip) compare(told []byte, from netip.Addr, spread time.Duration) {
	if !g.exchanges() || len(told) != heldLen || g.fetches.wanted(from) {
		return
	}
	ours := g.held()
	if bytes.Equal(told, ours) {
		return
	}
	delay := time.Duration(0)
	if spread > 0 {
		delay = rand.N(spread)
	}
	g.fetches.add(from, told, ours, time.Now(), delay)
}

// gather fetches notices from peers that hold others, and tells who may want to
// fetch from here, until ctx ends.
func (g *Gossip) gather(ctx context.Context, t *transport) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.fetches.wake:
		}
		g.hint()
		for _, from := range g.fetches.start(time.Now()) {
			wg.Go(func() {
				news, err := g.fetchAll(t, from)
				if err != nil {
					g.log.Debug("notices not fetched", "peer", from, "err", err)
				}
				g.fetches.end(from, news, time.Now())
			})
		}
	}
}

// fetchAll asks a peer for all notices that are not held here, and reports
// whether any of them was news. What was wrong is judged again after news,
// which may have made it right.
func (g *Gossip) fetchAll(t *transport, from netip.Addr) (news bool, err error) {
	for range fetchRounds {
		g.count.add(countFetches, 1)
		b, err := t.call(from, appendNames(frame(g.tag, kindFetch), g.read()))
		if err != nil {
			return news, err
		}
		kind, body, why := openFrame(g.tag, b)
		if why != "" || kind != kindNotices {
			return news, fmt.Errorf("read answer: kind %d %s: an older version?", kind, why)
		}
		list, more, err := decodeNotices(body)
		if err != nil {
			g.count.add(causeMalformed, 1)
			return news, err
		}
		got := g.weighAll(list, from)
		news = news || got
		if !got || !more {
			break
		}
	}
	return news, nil
}

// weighAll judges what came together, the rest again after news.
func (g *Gossip) weighAll(list [][]byte, from netip.Addr) (news bool) {
	for range weighRounds {
		again := false
		var rest [][]byte
		for _, b := range list {
			switch g.weigh(bytes.Clone(b), from) {
			case outcomeNews:
				again = true
			case outcomeNoNews, outcomeKnown:
				rest = append(rest, b)
			case outcomeLater:
				return news || again
			}
		}
		news = news || again
		if !again {
			break
		}
		list = rest
	}
	return news
}
