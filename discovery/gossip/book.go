package gossip

import (
	"bytes"
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
	signed []byte // body and signature; nil: introduced
	rec    record // of signed
	floor  uint32 // the highest the node ever signed, as far as was seen
	state  discovery.MemberState
	since  time.Time

	// The highest incarnations, in this life of the node as far as was heard:
	alive   uint32 // with which it was called alive
	left    uint32 // with which it said farewell
	accused uint32 // with which it was called suspect or dead
}

// book holds the verified entries of all nodes, self included. It calls verify
// without holding its lock, and never anything else.
type book struct {
	mesh   string
	prefix netip.Prefix
	self   discovery.NodeID
	verify func([][]byte) (discovery.Identity, ed25519.PublicKey, error)

	mu      sync.Mutex // guards the fields below
	entries map[discovery.NodeID]*entry
	owners  map[netip.Addr]discovery.NodeID
	leaves  map[digest]discovery.NodeID
}

// news is what merging one item changed.
type news struct {
	id     discovery.NodeID
	chain  bool   // a new or renewed chain
	record bool   // a newer record
	lacks  bool   // a chain is missing: the whole one, or the renewed one
	own    record // our own record, heard from others; zero Seq: it was not
	twin   bool   // another content under the sequence of the record that was held
}

// merge judges one item and keeps what is new in it. A refusal names its cause
// and changes nothing, except that a good chain is kept although the record
// beside it is bad.
func (b *book) merge(it item) (news, cause) {
	var r record
	var body, sig []byte
	if it.record != nil {
		var err error
		if body, sig, err = splitSigned(it.record); err != nil {
			return news{}, causeMalformed
		}
		if r, err = decodeRecord(body); err != nil {
			return news{}, causeMalformed
		}
	}
	n := news{id: r.ID}
	if it.chain != nil {
		id, added, why := b.admit(it.chain)
		if why != "" {
			return n, why
		}
		if it.record != nil && r.ID != id {
			return n, causeBadSignature
		}
		n.id, n.chain = id, added
	}
	if it.record == nil {
		return n, ""
	}
	why := b.mergeRecord(r, body, sig, it.record, &n)
	return n, why
}

// mergeRecord judges a record by the key that its node's chain certifies.
func (b *book) mergeRecord(r record, body, sig, signed []byte, n *news) cause {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[r.ID]
	if e == nil {
		n.lacks = true
		return causeUnknownNode
	}
	same := bytes.Equal(e.signed, signed)
	if same || r.Seq < e.rec.Seq && (r.ID != b.self || r.Floor <= e.floor) {
		n.lacks = same && r.ID != b.self && r.Leaf != e.leaf
		if same {
			return ""
		}
		return causeStale
	}
	if !ed25519.Verify(e.key, signedText(b.mesh, body), sig) {
		return causeBadSignature
	}
	if r.ID == b.self {
		e.floor = max(e.floor, r.Floor)
		n.own = r
		return ""
	}
	if r.Seq == e.rec.Seq && e.signed != nil {
		// Every node keeps the same one of two, so that all agree.
		n.twin = true
		if bytes.Compare(signed, e.signed) < 0 {
			return causeStale
		}
	}
	e.signed, e.rec = bytes.Clone(signed), r
	e.floor = max(e.floor, r.Floor)
	n.record, n.lacks = true, r.Leaf != e.leaf
	return ""
}

// owner is the verified node at an address.
func (b *book) owner(a netip.Addr) (discovery.NodeID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, ok := b.owners[a]
	return id, ok
}

// satisfies reports whether the book holds at least this version.
func (b *book) satisfies(id discovery.NodeID, seq uint64, leaf digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	return e != nil && e.rec.Seq >= seq && (leaf == digest{} || leaf == e.leaf)
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
		a := e.rec.Announcement
		a.Endpoints, a.Services = slices.Clone(a.Endpoints), slices.Clone(a.Services)
		list = append(list, discovery.Member{
			Record: discovery.Record{Identity: e.id, Seq: e.rec.Seq, Announcement: a},
			State:  e.state,
			Since:  e.since,
		})
	}
	return list
}

// mark sets a node's state, if the book has the node and it is a change.
// Suspect is only said of the living.
func (b *book) mark(id discovery.NodeID, s discovery.MemberState) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	if e == nil || e.state == s || s == discovery.StateSuspect && e.state != discovery.StateAlive {
		return false
	}
	if s == discovery.StateAlive && !living(e.state) {
		e.alive, e.left = 0, 0
	}
	e.state, e.since = s, time.Now()
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
