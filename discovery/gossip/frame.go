package gossip

import (
	"crypto/sha256"
	"encoding/hex"

	"drawbridge/discovery"
)

// Bounds of frames: what a peer may make this node hold at once.
const (
	maxNodes  = 4096    // records in one exchange, and members of a mesh
	maxStream = 4 << 20 // bytes of one stream
	maxWants  = 64      // ids in one request
	maxChain  = 6       // certificates: a renewal carries its original's
	maxCert   = 4 << 10 // bytes of one certificate

	frameVersion = 1
	frameHeader  = 6 // version, mesh tag, kind

	kindItems   = 1 // any number of items
	kindWant    = 2 // ids whose items are asked for
	kindNotice  = 3 // one notice
	kindHeld    = 4 // digest and number of the notices that the sender holds
	kindFetch   = 5 // digests of the notices held: all others are asked for
	kindNotices = 6 // the answer

	itemChain  = 1
	itemRecord = 2
)

// item is a certificate chain (an introduction), a signed record, or both (an
// envelope, which needs nothing else to be believed).
type item struct {
	chain  [][]byte // DER, leaf first
	record []byte   // body and signature
}

// meshTag tells meshes apart before any signature is checked.
func meshTag(mesh string) (tag [4]byte) {
	sum := sha256.Sum256([]byte("drawbridge mesh\x00" + mesh))
	copy(tag[:], sum[:])
	return tag
}

func frame(tag [4]byte, kind byte) []byte {
	return append(append([]byte{frameVersion}, tag[:]...), kind)
}

// openFrame checks the header and returns the kind and what follows it.
func openFrame(tag [4]byte, b []byte) (kind byte, rest []byte, why cause) {
	if len(b) < frameHeader || b[0] != frameVersion {
		return 0, nil, causeMalformed
	}
	if [4]byte(b[1:5]) != tag {
		return 0, nil, causeForeign
	}
	return b[5], b[frameHeader:], ""
}

func appendItem(b []byte, it item) []byte {
	var has byte
	if it.chain != nil {
		has |= itemChain
	}
	if it.record != nil {
		has |= itemRecord
	}
	b = append(b, has)
	if it.chain != nil {
		b = append(b, byte(len(it.chain)))
		for _, cert := range it.chain {
			b = appendBlock(b, cert)
		}
	}
	if it.record != nil {
		b = appendBlock(b, it.record)
	}
	return b
}

// decodeItems reads the body of an items frame. The result aliases b.
func decodeItems(b []byte) ([]item, error) {
	r := &reader{b: b}
	var items []item
	for len(r.b) > 0 {
		if len(items) == maxNodes {
			return nil, errMalformed
		}
		var it item
		has := r.u8()
		if has == 0 || has > itemChain|itemRecord {
			return nil, errMalformed
		}
		if has&itemChain != 0 {
			n := r.count(maxChain)
			if n == 0 {
				return nil, errMalformed
			}
			for range n {
				it.chain = append(it.chain, r.block(maxCert))
			}
		}
		if has&itemRecord != 0 {
			it.record = r.block(maxSigned)
		}
		if r.bad {
			return nil, errMalformed
		}
		items = append(items, it)
	}
	return items, nil
}

func appendWant(b []byte, ids []discovery.NodeID) []byte {
	for _, id := range ids {
		if raw, ok := rawID(id); ok {
			b = append(b, raw[:]...)
		}
	}
	return b
}

func decodeWant(b []byte) ([]discovery.NodeID, error) {
	if len(b)%idLen != 0 || len(b) > maxWants*idLen {
		return nil, errMalformed
	}
	var ids []discovery.NodeID
	for ; len(b) > 0; b = b[idLen:] {
		ids = append(ids, discovery.NodeID(hex.EncodeToString(b[:idLen])))
	}
	return ids, nil
}
