package gossip

import (
	"bytes"
	"crypto/ed25519"
	"time"

	"drawbridge/discovery"
)

// news is what merging one item changed.
type news struct {
	id     discovery.NodeID
	chain  bool   // a new or renewed chain
	record bool   // a newer record
	lacks  bool   // a chain is missing: the whole one, or the renewed one
	own    record // our own record, heard from others; zero Seq: it was not
	twin   bool   // another content under the sequence of the record that was held
	fork   bool   // an earlier boot id under a later sequence
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
	if e == nil && b.gone.has(r.ID) {
		return causeRefused
	}
	if e == nil {
		n.lacks = true
		return causeUnknownNode
	}
	same := bytes.Equal(e.signed, signed)
	if same || r.Seq < e.rec.Seq && (r.ID != b.self || r.Floor <= e.floor) {
		if same {
			n.lacks = r.ID != b.self && b.outdated(e) && e.mayAsk(time.Now())
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
	n.fork = e.reboot(r.Boot)
	if r.Seq == e.rec.Seq && e.signed != nil {
		// Every node keeps the same one of two, so that all agree.
		n.twin = true
		n.fork = n.fork || r.Boot != e.rec.Boot
	}
	if n.fork {
		e.twin = time.Now()
	}
	if n.twin && bytes.Compare(signed, e.signed) < 0 {
		return causeStale
	}
	e.signed, e.rec = bytes.Clone(signed), r
	e.floor = max(e.floor, r.Floor)
	n.record, n.lacks = true, b.outdated(e)
	if n.lacks {
		e.asked = time.Now()
	}
	return ""
}
