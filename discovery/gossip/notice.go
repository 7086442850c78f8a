package gossip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A notice is a small statement that proves itself and that every node is to
// have. Its meaning is the caller's: here it is bytes that Judge takes or not.
const (
	maxNotice  = 64 << 10 // bytes of one
	maxNotices = 1 << 14  // in one exchange

	maxWaiting     = 1024 // heard and not judged yet
	waitingPerPeer = 64
	maxPassing     = 256 // on their way in the gossip
)

// notices is what a node does with them. The zero value is ready, but for heard.
type notices struct {
	judged  judged
	passing atomic.Int64 // in the broadcast queue
	hint    atomic.Bool  // there is more to be had here
	heard   chan heard   // to be judged

	mu      sync.Mutex // guards the fields below
	waiting map[netip.Addr]int
	shouts  []shout // to be told at once
	ledger  ledger
}

// heard is a notice as it came.
type heard struct {
	notice []byte
	from   netip.Addr
}

// hear takes a notice from a peer's frame. It is judged elsewhere, because that
// may take time and packets do not wait.
func (g *Gossip) hear(b []byte, from netip.Addr) {
	if g.opt.Judge == nil {
		return
	}
	if len(b) == 0 || len(b) > maxNotice {
		g.count.add(causeMalformed, 1)
		return
	}
	n := &g.notices
	if n.judged.known(sha256.Sum256(b), time.Now()) {
		g.count.add(countKnown, 1)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting[from] >= waitingPerPeer {
		g.count.add(causeRate, 1)
		return
	}
	select {
	case n.heard <- heard{bytes.Clone(b), from}:
		if n.waiting == nil {
			n.waiting = map[netip.Addr]int{}
		}
		n.waiting[from]++
	default:
		g.count.add(causeRate, 1)
	}
}

// consider judges what was heard until ctx ends.
func (g *Gossip) consider(ctx context.Context) {
	n := &g.notices
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-n.heard:
			n.mu.Lock()
			if n.waiting[h.from]--; n.waiting[h.from] <= 0 {
				delete(n.waiting, h.from)
			}
			n.mu.Unlock()
			if g.weigh(h.notice, h.from) == outcomeNews {
				g.tellNow(shout{notice: h.notice, some: true})
			}
		}
	}
}

// outcome is what became of one notice.
type outcome uint8

const (
	outcomeNews outcome = iota
	outcomeNoNews
	outcomeKnown // not judged: it was before
	outcomeLater // not judged: the peer made us judge enough
)

// weigh judges a notice and tells news further. Nobody may change the notice
// afterwards.
func (g *Gossip) weigh(b []byte, from netip.Addr) outcome {
	f := fingerprint(sha256.Sum256(b))
	j := &g.notices.judged
	if j.known(f, time.Now()) {
		g.count.add(countKnown, 1)
		return outcomeKnown
	}
	if !j.begin(f, from, time.Now()) {
		g.count.add(causeRate, 1)
		return outcomeLater
	}
	news := g.opt.Judge(b)
	j.end(f, from, news, time.Now())
	if !news {
		g.count.add(causeNoNews, 1)
		return outcomeNoNews
	}
	g.count.add(countNews, 1)
	g.passOn(f, b)
	return outcomeNews
}

// passOn tells a notice further by gossip, once for each notice. When it does
// not fit a datagram, or many are on their way, it tells that there is more to
// be had here.
func (g *Gossip) passOn(f fingerprint, b []byte) {
	msg := append(frame(g.tag, kindNotice), b...)
	n := &g.notices
	if !g.fits(msg) {
		n.hint.Store(true)
		return
	}
	if n.passing.Add(1) > maxPassing {
		n.passing.Add(-1)
		n.hint.Store(true)
		return
	}
	g.queue.QueueBroadcast(&broadcast{
		name: "notice " + hex.EncodeToString(f[:]),
		msg:  msg,
		done: func() { n.passing.Add(-1) },
	})
}

// hint tells by gossip which notices are held here, so that who holds others
// asks for them. gather does so for passOn, once for many.
func (g *Gossip) hint() {
	if g.exchanges() && g.notices.hint.Swap(false) {
		g.queue.QueueBroadcast(&broadcast{name: "notices held", msg: append(frame(g.tag, kindHeld), g.held()...)})
	}
}

// fits reports whether a frame has room in a datagram of gossip.
func (g *Gossip) fits(f []byte) bool {
	return len(f) <= g.opt.MTU-headers-8 // compound header and one length, user type
}
