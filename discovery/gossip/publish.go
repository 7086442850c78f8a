package gossip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"drawbridge/discovery"
)

// Gossip alone needs a second or two to reach everybody, and longer where many
// are suspected: memberlist's own words go first, and beside them a notice
// hardly fits. So who publishes a notice tells each living member directly, and
// who hears it tells some; all do so again, because datagrams are lost.
const (
	relayTo    = 4                    // living members that a notice is told further to
	shoutBurst = 64                   // datagrams in a row: a fraction of a socket's buffer
	shoutPause = 4 * time.Millisecond // after each burst
	maxShouts  = 256                  // notices that wait
	maxRepeats = 8                    // with more under way, each is told once
)

// shoutAfter is when a notice is told, counted from the first time.
var shoutAfter = [...]time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}

// Publish spreads a notice of 1 byte to 64 KiB that this node holds already: at
// once to every living member, then by gossip to those who are not seen alive
// here. It returns before that is done. One that does not fit a datagram (about
// 1200 bytes at an MTU of 1280) goes to the gateways, and from there and here to
// who asks. What is published before Run or beside many others is
// spread by gossip and exchange alone.
func (g *Gossip) Publish(notice []byte) {
	if len(notice) == 0 || len(notice) > maxNotice {
		g.log.Error("notice not published: its size is out of bounds", "bytes", len(notice), "most", maxNotice)
		return
	}
	b := bytes.Clone(notice)
	f := fingerprint(sha256.Sum256(b))
	n := &g.notices
	n.judged.own(f, time.Now())
	g.count.add(countPublished, 1)
	g.passOn(f, b)
	g.tellNow(shout{notice: b})
}

// tellNow hands a notice to spread.
func (g *Gossip) tellNow(s shout) {
	n := &g.notices
	n.mu.Lock()
	if len(n.shouts) < maxShouts {
		n.shouts = append(n.shouts, s)
	}
	n.mu.Unlock()
	g.wake(g.shouted)
}

// shout is a notice on its way to every living member, or to some; or the own
// record on its way to those that must not wait for gossip.
type shout struct {
	notice []byte
	some   bool
	to     []netip.Addr // of the own record
	first  time.Time
	told   int // times
}

func (s *shout) due() time.Time { return s.first.Add(shoutAfter[s.told]) }

// spread tells notices to the living until ctx ends.
func (g *Gossip) spread(ctx context.Context, t *transport) {
	var calls sync.WaitGroup
	defer calls.Wait()
	p := &pacer{}
	var open []shout
	for {
		open = append(open, g.newShouts(time.Now())...)
		next := time.Hour
		var rest []shout
		for _, s := range open {
			repeat := true
			if !s.due().After(time.Now()) {
				repeat = g.shout(ctx, t, s, p, &calls) && len(open) <= maxRepeats
				s.told++
			}
			if repeat && s.told < len(shoutAfter) {
				next = min(next, max(0, time.Until(s.due())))
				rest = append(rest, s)
			}
		}
		open = rest
		wait := time.NewTimer(next)
		select {
		case <-ctx.Done():
			wait.Stop()
			for _, s := range g.newShouts(time.Now()) { // a last word, while Run says farewell
				g.shout(context.WithoutCancel(ctx), t, s, p, &calls)
			}
			return
		case <-wait.C:
		case <-g.shouted:
			wait.Stop()
		}
	}
}

// newShouts takes what is to be told since.
func (g *Gossip) newShouts(now time.Time) []shout {
	n := &g.notices
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.shouts
	n.shouts = nil
	for i := range list {
		list[i].first = now
	}
	return list
}

// shout tells one notice: by datagrams to the living, paced, or by streams to
// the gateways. It reports whether to tell it again: streams are not lost.
func (g *Gossip) shout(ctx context.Context, t *transport, s shout, p *pacer, calls *sync.WaitGroup) bool {
	if s.to != nil {
		return g.shoutRecord(ctx, t, s.to, p)
	}
	f := append(frame(g.tag, kindNotice), s.notice...)
	if !g.fits(f) {
		if s.some {
			return false // passOn told that it can be had here
		}
		gateways := g.book.addrs(func(e *entry) bool { return e.id.Role == discovery.RoleGateway && e.state != discovery.StateLeft })
		for _, at := range gateways {
			calls.Go(func() {
				if _, err := t.call(at, f); err != nil {
					g.log.Debug("notice not told", "peer", at, "err", err)
				}
			})
		}
		return false
	}
	to := g.book.addrs(func(e *entry) bool { return living(e.state) })
	if s.some {
		to = pick(to, relayTo)
	}
	packet := append([]byte{msgUser}, f...)
	for _, at := range to {
		if !p.step(ctx) {
			return false
		}
		if err := t.send(packet, netip.AddrPortFrom(at, g.opt.Port)); err != nil {
			g.log.Debug("notice not told", "peer", at, "err", err)
		}
	}
	return true
}

// pacer lets shoutBurst datagrams go in a row.
type pacer struct {
	sent int
	last time.Time
}

// step waits for the turn of one datagram; false: ctx ended.
func (p *pacer) step(ctx context.Context) bool {
	if now := time.Now(); now.Sub(p.last) > shoutPause {
		p.sent = 0
	}
	if p.sent == shoutBurst {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(shoutPause):
		}
		p.sent = 0
	}
	p.sent++
	p.last = time.Now()
	return true
}

// addrs lists the addresses of other nodes that are wanted, in the order of
// their ids.
func (b *book) addrs(wanted func(*entry) bool) []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []netip.Addr
	for _, id := range b.sorted() {
		if e := b.entries[id]; id != b.self && wanted(e) {
			list = append(list, e.id.Addr)
		}
	}
	return list
}
