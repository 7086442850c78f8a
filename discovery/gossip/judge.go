package gossip

import (
	"encoding/binary"
	"net/netip"
	"time"

	"drawbridge/discovery"
)

// Incarnations. A node raises its own to refute a false word about itself; a
// refutation only counts while nobody believes a higher one. Whoever may claim
// any number could therefore evict a node for good, so a claim is believed only
// near the number that the node itself signed last (record.Floor). A node that
// is driven up signs again, which moves the window along with it.
const (
	maxIncarnation = 1 << 31
	window         = 1000 // above the floor
	resignAfter    = 500  // above the floor, so that others learn in time
)

// Accusations: the first word that a node with this incarnation is suspect or
// dead costs its bearer a token. A whole site may die at once, so there are as
// many as nodes, and some.
const (
	accusations    = 64 // burst, besides one for each node
	accusationRate = 1  // per second
)

// maxMeta bounds the meta of others; ours has metaLen bytes.
const (
	metaVersion = 1
	metaLen     = 1 + 8 + 8 // version, seq, digest of the record's body
	maxMeta     = 128
)

// speaks is the memberlist protocol that every node of ours speaks, and the
// only one that a claim about a node's versions may exclude nobody from.
const speaks = 2

// judge decides which words of a peer memberlist may hear.
type judge struct {
	*book
	port uint16
	// raised is told what own incarnation a word that is let through may cause.
	raised func(uint32)
	// lacks is told that a peer knows a newer version of a node, and what it
	// said of it if it is to be heard again when the node is known.
	lacks func(n need, said *message)
	// relieved is told of a node that answered a suspicion.
	relieved func(discovery.NodeID)
	// remind is told of the death of a living node, of which another told here,
	// and of the node's address.
	remind func(m message, to netip.Addr)

	accusers map[netip.Addr]*bucket // guarded by book.mu
}

// hear judges one message from the node at from. A message that passes is in a
// form that memberlist reads in one way only; "" means it passes.
func (j *judge) hear(m *message, from netip.Addr) cause {
	switch m.Type {
	case msgPing, msgIndirectPing:
		return j.hearPing(m, from)
	case msgAck, msgNack:
		m.Payload = nil // used for coordinates, of which there are none here
		return ""
	case msgAlive:
		return j.hearAlive(m, from)
	case msgSuspect, msgDead:
		return j.hearAccusation(m, from)
	}
	return causeMalformed
}

// hearPing keeps answers at home: whoever asks gets the answer, nobody else.
func (j *judge) hearPing(m *message, from netip.Addr) cause {
	if len(m.SourceAddr) > 0 || m.SourcePort != 0 {
		src, ok := addrOf(m.SourceAddr)
		if !ok || src != from || m.SourcePort != j.port {
			return causeBadSource
		}
		m.SourceAddr = from.AsSlice()
	}
	if m.Type == msgPing {
		return ""
	}
	target, ok := m.addr()
	if !ok || m.Port != j.port {
		return causeBadAddress
	}
	if id, ok := j.owner(target); !ok || string(id) != m.Node {
		return causeUnknownNode
	}
	m.Addr = target.AsSlice()
	return ""
}

// hearAlive lets a node be called alive only at its certified address, with
// versions that exclude nobody. What comes before the node's chain is kept for
// when the chain is there.
func (j *judge) hearAlive(m *message, from netip.Addr) cause {
	addr, ok := m.addr()
	if !ok || m.Port != j.port || len(m.Meta) > maxMeta || !goodVersions(m.Vsn) {
		return causeMalformed
	}
	id := discovery.NodeID(m.Node)
	j.mu.Lock()
	e := j.entries[id]
	if e == nil && j.gone.has(id) {
		j.mu.Unlock()
		return causeRefused
	}
	if e == nil {
		j.mu.Unlock()
		j.lacks(need{id: id, seq: metaSeq(m.Meta), from: from}, m)
		return causeUnknownNode
	}
	seq, bad := e.rec.Seq, causeOf(e, m.Incarnation)
	certified := e.id.Addr
	if bad == "" && certified == addr {
		e.alive, e.top = max(e.alive, m.Incarnation), max(e.top, m.Incarnation)
	}
	answered := e.state == discovery.StateSuspect && m.Incarnation > e.doubted
	j.mu.Unlock()
	switch {
	case addr != certified:
		return causeBadAddress
	case bad != "":
		return bad
	}
	m.Addr = addr.AsSlice()
	if answered {
		j.relieved(id)
	}
	if id == j.self {
		j.raised(m.Incarnation)
	} else if s := metaSeq(m.Meta); s > seq {
		j.lacks(need{id: id, seq: s, from: from}, nil)
	}
	return ""
}

// hearAccusation takes words against a node that is known.
func (j *judge) hearAccusation(m *message, from netip.Addr) cause {
	id := discovery.NodeID(m.Node)
	j.mu.Lock()
	e := j.entries[id]
	if e == nil {
		defer j.mu.Unlock()
		if j.gone.has(id) {
			return causeRefused
		}
		return causeUnknownNode
	}
	why := causeOf(e, m.Incarnation)
	own := m.Node == m.From && e.id.Addr == from
	if why == "" && m.Incarnation > e.accused {
		if !own && !j.mayAccuse(from) {
			why = causeRate
		} else {
			e.accused = m.Incarnation
		}
	}
	if why == "" {
		e.top = max(e.top, m.Incarnation)
	}
	hearsay := why == "" && m.Type == msgDead && !own && living(e.state) && m.Incarnation > e.told && m.Incarnation >= e.alive
	if hearsay {
		e.told = m.Incarnation
	}
	if why == "" && m.Type == msgDead && m.Node == m.From {
		e.left = max(e.left, m.Incarnation)
	}
	certified := e.id.Addr
	j.mu.Unlock()
	if hearsay && id != j.self {
		j.remind(message{Type: msgDead, Node: m.Node, From: m.From, Incarnation: m.Incarnation}, certified)
	}
	if why == "" && id == j.self {
		j.raised(m.Incarnation)
	}
	return why
}

// mayAccuse takes a token of the bearer. The lock is held.
func (j *judge) mayAccuse(from netip.Addr) bool {
	if j.accusers == nil || len(j.accusers) > maxNodes {
		j.accusers = map[netip.Addr]*bucket{}
	}
	b := j.accusers[from]
	if b == nil {
		b = &bucket{}
		j.accusers[from] = b
	}
	return b.take(time.Now(), float64(accusations+len(j.entries)), accusationRate)
}

// causeOf says whether an incarnation of a node cannot be true.
func causeOf(e *entry, incarnation uint32) cause {
	if incarnation > maxIncarnation || uint64(incarnation) > uint64(e.floor)+window {
		return causeBadIncarnation
	}
	return ""
}

// goodVersions takes memberlist's six version bytes (protocol min, max,
// current, then the delegate's) if a node that has them can talk to us. One
// claim of other versions would end every push/pull in the mesh.
func goodVersions(v []byte) bool {
	return len(v) == 6 && v[0] >= 1 && v[0] <= speaks && v[1] >= speaks && v[2] == speaks &&
		v[3] == 0 && v[4] == 0 && v[5] == 0
}

// hearState judges one node's state in a push/pull, which memberlist turns
// into one of the messages above.
func (j *judge) hearState(m *message, from netip.Addr) cause {
	addr, ok := m.addr()
	if !ok || !goodVersions(m.Vsn) {
		return causeMalformed
	}
	m.Addr = addr.AsSlice()
	switch m.State {
	case peerAlive:
		return j.hearAlive(m, from)
	case peerSuspect, peerDead:
		m.Type, m.From = msgSuspect, ""
	case peerLeft:
		m.Type, m.From = msgDead, m.Node
	default:
		return causeMalformed
	}
	defer func() { m.Type = pushNode }()
	return j.hearAccusation(m, from)
}

// metaSeq is the record number that a node's meta tells; 0: none.
func metaSeq(meta []byte) uint64 {
	if len(meta) < metaLen || meta[0] != metaVersion {
		return 0
	}
	return binary.BigEndian.Uint64(meta[1:])
}

func appendMeta(b []byte, seq uint64, d digest) []byte {
	b = binary.BigEndian.AppendUint64(append(b, metaVersion), seq)
	return append(b, d[:]...)
}
