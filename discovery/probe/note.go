package probe

import (
	"encoding/binary"
	"net/netip"
)

// Bounds of a note; see the wire format in the package comment.
const (
	noteVersion = 2
	noteLen     = 20
	seenLen     = noteLen + 18
	minSize     = 576  // RFC 1122, section 3.3.2: every host takes so much
	maxSize     = 9216 // the largest frames in use
)

type noteKind uint8

const (
	noteSeen noteKind = iota + 1
	noteSize
	noteWhole
)

// note is one decoded datagram of version 2. Notes are extra to the pulses:
// they prove nothing, and their loss says nothing of the other node.
type note struct {
	kind noteKind
	size int            // of the overlay packet that is, or was, filled up; 0 in seen
	boot uint64         // life of who asks; 0 in seen
	seq  uint64         // of the question; 0 in seen
	seen netip.AddrPort // in seen only
}

// headers is what IP and UDP add to a datagram for the address, without options.
func headers(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// encode writes the note into b, which must hold maxSize bytes, and returns the
// used part. A size is filled up for an overlay whose headers are so long.
func (n *note) encode(b []byte, headers int) []byte {
	length := noteLen
	switch n.kind {
	case noteSeen:
		length = seenLen
	case noteSize:
		length = n.size - headers
	}
	b = b[:length]
	clear(b)
	b[0], b[1] = noteVersion, byte(n.kind)
	binary.BigEndian.PutUint16(b[2:], uint16(n.size))
	binary.BigEndian.PutUint64(b[4:], n.boot)
	binary.BigEndian.PutUint64(b[12:], n.seq)
	if n.kind == noteSeen {
		a := n.seen.Addr().As16()
		copy(b[noteLen:], a[:])
		binary.BigEndian.PutUint16(b[noteLen+16:], n.seen.Port())
	}
	return b
}

// decode reads b. A size that did not arrive whole is refused, and so is an
// address that nobody can be heard from.
func (n *note) decode(b []byte, headers int) error {
	if len(b) < noteLen || b[0] != noteVersion {
		return errMalformed
	}
	*n = note{
		kind: noteKind(b[1]), size: int(binary.BigEndian.Uint16(b[2:])),
		boot: binary.BigEndian.Uint64(b[4:]), seq: binary.BigEndian.Uint64(b[12:]),
	}
	asks := n.boot != 0 && n.seq != 0 && n.size >= minSize && n.size <= maxSize
	switch {
	case n.kind == noteSeen && len(b) == seenLen && n.size == 0 && n.boot == 0 && n.seq == 0:
		a := netip.AddrFrom16([16]byte(b[noteLen:])).Unmap()
		n.seen = netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[noteLen+16:]))
		if !tellable(n.seen) {
			return errMalformed
		}
		return nil
	case n.kind == noteSize && asks && len(b) == n.size-headers:
		return nil
	case n.kind == noteWhole && asks && len(b) == noteLen:
		return nil
	}
	return errMalformed
}

// tellable: an address that a node can be heard from. Loopback is one, in tests
// and on one machine.
func tellable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() && a.Addr().Zone() == ""
}
