package gossip

import (
	"encoding/binary"
	"hash/crc32"
)

// openPacket takes memberlist's wrapping off a datagram and returns the single
// messages in it, aliasing b. Compression, encryption, labels, and compounds
// inside compounds are never used between our nodes, so they are refused.
func openPacket(b []byte) ([][]byte, cause) {
	if len(b) > 5 && b[0] == msgCRC {
		if crc32.ChecksumIEEE(b[5:]) != binary.BigEndian.Uint32(b[1:5]) {
			return nil, causeMalformed
		}
		b = b[5:]
	}
	if len(b) == 0 {
		return nil, causeMalformed
	}
	if b[0] != msgCompound {
		if why := plain(b[0]); why != "" {
			return nil, why
		}
		return [][]byte{b}, ""
	}
	r := &reader{b: b[1:]}
	n := int(r.u8())
	sizes := &reader{b: r.take(2 * n)}
	parts := make([][]byte, 0, n)
	for range n {
		part := r.take(int(sizes.u16()))
		if r.bad || sizes.bad || len(part) == 0 {
			return nil, causeMalformed
		}
		if why := plain(part[0]); why != "" {
			return nil, why
		}
		parts = append(parts, part)
	}
	if r.bad || len(r.b) != 0 {
		return nil, causeMalformed
	}
	return parts, ""
}

// plain says why a type may not stand inside a datagram; "" if it may.
func plain(kind byte) cause {
	switch kind {
	case msgPing, msgIndirectPing, msgAck, msgNack, msgSuspect, msgAlive, msgDead, msgUser:
		return ""
	case msgCompress, msgEncrypt:
		return causeCompressed
	}
	return causeMalformed
}
