package gossip

import (
	"net/netip"
	"time"

	"drawbridge/discovery"
)

// maxBad is how many items of one frame may be refused before the rest is not
// looked at: a good node passes on nothing that it did not verify itself.
const maxBad = 64

// take takes a frame that needs no answer from a peer, or a frame of items from
// here when from is zero.
func (g *Gossip) take(b []byte, from netip.Addr) {
	kind, body, why := openFrame(g.tag, b)
	switch {
	case why != "":
		g.count.add(why, 1)
	case kind == kindItems:
		g.takeItems(body, from)
	case kind == kindNotice && from.IsValid():
		g.hear(body, from)
	case kind == kindHeld && from.IsValid():
		g.compare(body, from, hintSpread)
	default:
		g.count.add(causeMalformed, 1)
	}
}

func (g *Gossip) takeItems(body []byte, from netip.Addr) {
	items, err := decodeItems(body)
	if err != nil {
		g.count.add(causeMalformed, 1)
		return
	}
	bad := 0
	for _, it := range items {
		switch g.merge(it, from) {
		case causeForeign, causeBadSignature, causeMalformed:
			if bad++; bad == maxBad {
				return
			}
		}
	}
}

// merge takes one item and does what follows from it.
func (g *Gossip) merge(it item, from netip.Addr) cause {
	n, why := g.book.merge(it)
	g.count.add(why, 1)
	if n.lacks {
		g.lack(g.needOf(it, from), nil)
	}
	if n.own.Seq != 0 {
		g.heardSelf(n.own)
	}
	if n.twin || n.fork {
		g.twins(n.id)
	}
	if n.record {
		g.count.add(countRecords, 1)
		g.broadcast(n.id, it.record)
	}
	if n.chain {
		g.replay(g.needs.settle(n.id))
	}
	if n.chain || n.record || n.fork {
		g.wake(g.changed)
	}
	return why
}

// needOf names what would make a record believable and current.
func (g *Gossip) needOf(it item, from netip.Addr) need {
	body, _, err := splitSigned(it.record)
	if err != nil {
		return need{}
	}
	r, _ := decodeRecord(body)
	return need{id: r.ID, seq: r.Seq, leaf: r.Leaf, whole: r.Whole, from: from}
}

// lack notes a need, with what was said of the node if that is to be heard
// again later.
func (g *Gossip) lack(w need, said *message) {
	if said != nil {
		again := *said
		again.Type = msgAlive
		w.alive = again.bytes()
	}
	g.needs.add(w)
}

// replay lets memberlist hear what was said of a node before it was known.
func (g *Gossip) replay(w need) {
	g.mu.Lock()
	t := g.live
	g.mu.Unlock()
	if w.alive == nil || t == nil {
		return
	}
	if out := g.sieve.message(w.alive, w.from); out != nil {
		t.deliver([][]byte{out}, netip.AddrPortFrom(w.from, g.opt.Port), time.Now())
	}
}

func (g *Gossip) twins(id discovery.NodeID) {
	g.count.add(causeClone, 1)
	g.mu.Lock()
	tell := g.twin.take(time.Now(), 4, 1.0/60)
	g.mu.Unlock()
	if tell {
		g.log.Warn("the records of a node contradict each other: its identity may be in use twice", "node", id)
	}
}

// broadcast spreads a signed record. One that does not fit a datagram is told
// of by the node's meta instead, and asked for.
func (g *Gossip) broadcast(id discovery.NodeID, signed []byte) {
	f := appendItem(frame(g.tag, kindItems), item{record: signed})
	if !g.fits(f) {
		return
	}
	g.queue.QueueBroadcast(&broadcast{name: string(id), msg: f})
}

// maxState leaves room in a stream for memberlist's own part.
const maxState = maxStream - maxStream/4

// state is the user part of a push/pull. In a mesh whose chains do not fit
// they stay out, and are asked for.
func (g *Gossip) state(whole bool) []byte {
	f := frame(g.tag, kindItems)
	for _, it := range g.book.items(nil, whole) {
		f = appendItem(f, it)
		if whole && len(f) > maxState {
			return g.state(false)
		}
	}
	return f
}

// Import takes records from the disk or from enrolment, as Export gave them.
// Each is verified like any other; a bad one is counted and skipped.
func (g *Gossip) Import(blobs [][]byte) {
	for _, b := range blobs {
		g.take(b, netip.Addr{})
	}
}

// Export gives every verified record as a blob that proves itself: chain and
// record, or the chain alone for a node that was only introduced. For the disk
// and for new joiners. Gateways first, then by node: a joiner that is given
// only as many as fit needs those.
func (g *Gossip) Export() [][]byte {
	var ids []discovery.NodeID
	for _, gateways := range []bool{true, false} {
		for _, m := range g.book.members() {
			if (m.Role == discovery.RoleGateway) == gateways {
				ids = append(ids, m.ID)
			}
		}
	}
	blobs := make([][]byte, 0, len(ids))
	for _, it := range g.book.items(ids, true) {
		blobs = append(blobs, appendItem(frame(g.tag, kindItems), it))
	}
	return blobs
}

// watch learns from what memberlist sends whom it suspects: it has no event
// for that.
func (g *Gossip) watch(b []byte) {
	parts, why := openPacket(b)
	if why != "" {
		return
	}
	for _, p := range parts {
		if p[0] != msgSuspect && p[0] != msgAlive {
			continue
		}
		m, err := parseMessage(p)
		if err != nil {
			continue
		}
		if m.Type == msgAlive {
			g.relieve(discovery.NodeID(m.Node))
		} else if g.book.suspect(discovery.NodeID(m.Node), m.Incarnation) {
			g.changedTo(m.Node, discovery.StateSuspect)
		}
	}
}

// relieve ends a suspicion; it revives nobody.
func (g *Gossip) relieve(id discovery.NodeID) {
	if g.book.is(id, discovery.StateSuspect) {
		g.mark(string(id), discovery.StateAlive)
	}
}
