package gossip

import (
	"crypto/ed25519"
	"net/netip"
	"slices"
	"sync"
	"time"

	"drawbridge/discovery"
)

// entry is what is held of one node: always a verified chain, and the newest
// verified record unless the node was only introduced.
type entry struct {
	id     discovery.Identity
	key    ed25519.PublicKey
	chain  [][]byte
	leaf   digest
	whole  digest // of chain
	signed []byte // body and signature; nil: introduced
	rec    record // of signed
	floor  uint32 // the highest the node ever signed, as far as was seen
	state  discovery.MemberState
	since  time.Time

	// The highest incarnations, in this life of the node as far as was heard:
	alive   uint32 // with which it was called alive
	left    uint32 // with which it said farewell
	accused uint32 // with which it was called suspect or dead
	told    uint32 // with which it was told of its death, see remind
	top     uint32 // of all, in all lives: memberlist's own is not above it
	doubted uint32 // with which memberlist suspected it here

	declined digest    // chain that Prefer did not want for the held one
	asked    time.Time // when a chain that the record names was last missed
	boots    [bootsKept]uint64
	twin     time.Time // when two processes last spoke as the node
}

// book holds the verified entries of all nodes, self included. It calls verify
// and prefer without holding its lock, and never anything else.
type book struct {
	mesh   string
	prefix netip.Prefix
	self   discovery.NodeID
	verify func([][]byte) (discovery.Identity, ed25519.PublicKey, error)
	prefer func(held, offered [][]byte) bool // nil: never

	mu      sync.Mutex // guards the fields below
	entries map[discovery.NodeID]*entry
	owners  map[netip.Addr]discovery.NodeID
	leaves  map[digest]discovery.NodeID
	gone    gone
}

// owner is the verified node at an address.
func (b *book) owner(a netip.Addr) (discovery.NodeID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, ok := b.owners[a]
	return id, ok
}

// satisfies reports whether the book holds at least this version.
func (b *book) satisfies(w need) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[w.id]
	return e != nil && e.rec.Seq >= w.seq && (w.leaf == digest{} || w.leaf == e.leaf) &&
		(b.prefer == nil || w.whole == digest{} || w.whole == e.whole || w.whole == e.declined)
}

// items lists what is held of the named nodes, or of all when ids is nil,
// sorted by node. Whole items carry their chain; an introduction always does.
func (b *book) items(ids []discovery.NodeID, whole bool) []item {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ids == nil {
		ids = b.sorted()
	}
	var items []item
	for _, id := range ids {
		e := b.entries[id]
		if e == nil {
			continue
		}
		it := item{record: e.signed}
		if whole || e.signed == nil {
			it.chain = e.chain
		}
		items = append(items, it)
	}
	return items
}

// sorted lists the ids. The lock is held.
func (b *book) sorted() []discovery.NodeID {
	ids := make([]discovery.NodeID, 0, len(b.entries))
	for id := range b.entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// members copies everything out.
func (b *book) members() []discovery.Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]discovery.Member, 0, len(b.entries))
	for _, id := range b.sorted() {
		e := b.entries[id]
		a := cloned(e.rec.Announcement)
		list = append(list, discovery.Member{
			Record: discovery.Record{Identity: e.id, Seq: e.rec.Seq, Announcement: a},
			State:  e.state,
			Since:  e.since,
			Twin:   e.twin,
		})
	}
	return list
}

// mark sets a node's state, if the book has the node and it is a change.
func (b *book) mark(id discovery.NodeID, s discovery.MemberState) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil || e.state == s {
		return false
	}
	if s == discovery.StateAlive && !living(e.state) {
		e.alive, e.left, e.told = 0, 0, 0
	}
	e.state, e.since = s, time.Now()
	return true
}

// suspect marks a living node that memberlist suspects with this incarnation,
// unless a later word of the node was heard: a suspicion may be sent after its
// refutation.
func (b *book) suspect(id discovery.NodeID, incarnation uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil || e.state != discovery.StateAlive || incarnation < e.top {
		return false
	}
	e.state, e.since, e.doubted = discovery.StateSuspect, time.Now(), incarnation
	return true
}

// living counts the nodes that take part in gossip, self included.
func (b *book) living() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.entries {
		if living(e.state) {
			n++
		}
	}
	return n
}

func living(s discovery.MemberState) bool {
	return s == discovery.StateAlive || s == discovery.StateSuspect
}

// is reports whether the node is in that state.
func (b *book) is(id discovery.NodeID, s discovery.MemberState) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	return e != nil && e.state == s
}

// hasLeft reports whether the newest word of a node's death was its own.
func (b *book) hasLeft(id discovery.NodeID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	return e != nil && e.left > 0 && e.left >= e.alive
}

// identity is what a node's certificate binds.
func (b *book) identity(id discovery.NodeID) (discovery.Identity, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil {
		return discovery.Identity{}, false
	}
	return e.id, true
}

// floor is the highest incarnation that a node signed.
func (b *book) floor(id discovery.NodeID) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		return e.floor
	}
	return 0
}

// write keeps the record that was signed here.
func (b *book) write(r record, signed []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[r.ID]
	e.signed, e.rec, e.floor = signed, r, max(e.floor, r.Floor)
}
