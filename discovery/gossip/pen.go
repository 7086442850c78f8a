package gossip

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"drawbridge/discovery"
)

// Signing again for other reasons than a new announcement is paced: a clone of
// this identity, or a liar, must not make two nodes outbid each other at speed.
const (
	resignBurst = 3
	resignRate  = 0.5 // per second
	// metaPause lies between two changes of the node's meta, each of which
	// costs an incarnation.
	metaPause = 5 * time.Second
)

// pen writes this node's own record.
type pen struct {
	mu      sync.Mutex // guards the fields below
	content discovery.Announcement
	has     bool // there is content
	seq     uint64
	leaf    digest
	whole   digest // of the chain
	body    digest
	// incarnation is an upper bound of memberlist's own; signed is the floor
	// of the newest record.
	incarnation, signed uint32
	due                 bool // to be signed again, when the pace allows
	rival               bool // because of a record of ours that another process signed
	pace                bucket
	warned              time.Time
}

// Announce sets what this node says of itself. A change is signed under the
// next sequence number and told to all; equal content does nothing. The error
// names a bound that the announcement breaks: at most 8 endpoints, 64 services
// sorted by name, printable strings of at most 63 (names) or 64 characters.
func (g *Gossip) Announce(a discovery.Announcement) error {
	a = cloned(a)
	if err := checkAnnouncement(a); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	g.pen.mu.Lock()
	if g.pen.has && sameAnnouncement(g.pen.content, a) {
		g.pen.mu.Unlock()
		return nil
	}
	was := g.pen.content
	g.pen.content, g.pen.has = a, true
	g.pen.mu.Unlock()
	if err := g.sign(); err != nil {
		return err
	}
	g.tellConcerned(was, a)
	return nil
}

func sameAnnouncement(a, b discovery.Announcement) bool {
	return reflect.DeepEqual(cloned(a), cloned(b))
}

// cloned is a copy that shares no list with a; an empty list is nil.
func cloned(a discovery.Announcement) discovery.Announcement {
	a.Endpoints, a.Services = slices.Concat(a.Endpoints), slices.Concat(a.Services)
	a.Seen, a.Local, a.Direct = slices.Concat(a.Seen), slices.Concat(a.Local), slices.Concat(a.Direct)
	a.Streams, a.Names = slices.Concat(a.Streams), slices.Concat(a.Names)
	return a
}

// sign writes the next record, keeps and broadcasts it.
func (g *Gossip) sign() error {
	p := &g.pen
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.has {
		return nil
	}
	r := record{
		ID:           g.opt.Self.ID,
		Seq:          p.seq + 1,
		Floor:        min(max(p.incarnation, g.book.floor(g.opt.Self.ID)), maxIncarnation),
		Leaf:         p.leaf,
		Whole:        p.whole,
		Announcement: p.content,
	}
	body, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	signed := append(body, g.opt.Sign(signedText(g.opt.MeshName, body))...)
	p.seq, p.signed, p.due, p.rival, p.body = r.Seq, r.Floor, false, false, digestOf(body)
	g.book.write(r, signed)
	g.broadcast(r.ID, signed)
	g.wake(g.metaDue)
	g.wake(g.changed)
	return nil
}

// raise notes that memberlist's own incarnation may now be above heard.
func (g *Gossip) raise(heard uint32) {
	p := &g.pen
	p.mu.Lock()
	defer p.mu.Unlock()
	if heard < p.incarnation {
		return
	}
	p.incarnation = heard + 1
	if p.incarnation > p.signed+resignAfter && !p.due {
		p.due = true
		g.wake(g.resign)
	}
}

// heardSelf answers our own record, told by another: when it is newer than
// what we hold, this process started with a lost counter, and jumps above it.
func (g *Gossip) heardSelf(r record) {
	p := &g.pen
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Seq < p.seq || r.Seq+1 == 0 {
		return
	}
	p.seq = r.Seq
	p.rival = p.rival || p.has && r.Boot != p.content.Boot
	if !p.due {
		p.due = true
		g.wake(g.resign)
	}
}

// tend signs again when that is due and the pace allows it.
func (g *Gossip) tend(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.resign:
		}
		if !g.maySign(time.Now()) {
			continue
		}
		if err := g.sign(); err != nil {
			g.log.Error("own record not signed", "err", err)
		}
	}
}

// maySign takes a token if signing is due. Running out of them means that
// somebody else uses this identity or lies about its incarnation.
func (g *Gossip) maySign(now time.Time) bool {
	p := &g.pen
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.due || !p.has {
		return false
	}
	if p.pace.take(now, resignBurst, resignRate) {
		return true
	}
	g.count.add(causeClone, 1)
	if p.rival {
		g.book.double(g.opt.Self.ID, now)
		g.wake(g.changed)
	}
	if now.Sub(p.warned) > time.Minute {
		p.warned = now
		g.log.Warn("somebody else speaks as this node; look for a copy of its state directory", "node", g.opt.Self.ID)
	}
	return false
}

// meta is what memberlist tells beside our address: which record is newest.
func (g *Gossip) meta() []byte {
	g.pen.mu.Lock()
	defer g.pen.mu.Unlock()
	if !g.pen.has {
		return nil
	}
	return appendMeta(nil, g.pen.seq, g.pen.body)
}
