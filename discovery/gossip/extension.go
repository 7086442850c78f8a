package gossip

import (
	"encoding/binary"
	"math"
)

// The tail of a record is for what came after version 1 of the format: entries
// of a tag, a one-byte length and a value, by rising tag. Versions that do not
// know a tag skip it; the first version skips the whole tail.
const (
	tagTrust = 1 // number of the set of roots, base 128
	tagWhole = 2 // digest of the whole chain, 8 bytes
)

// appendExtension writes the tail with its length. A zero value has no entry.
func appendExtension(b []byte, r *record) []byte {
	var ext []byte
	if r.Trust != 0 {
		v := binary.AppendUvarint(nil, r.Trust)
		ext = append(append(ext, tagTrust, byte(len(v))), v...)
	}
	if r.Whole != (digest{}) {
		ext = append(append(ext, tagWhole, byte(len(r.Whole))), r.Whole[:]...)
	}
	return append(binary.AppendUvarint(b, uint64(len(ext))), ext...)
}

// readExtension reads the tail into the record.
func readExtension(b []byte, r *record) error {
	rd := &reader{b: b}
	last := byte(0)
	for len(rd.b) > 0 {
		tag := rd.u8()
		v := &reader{b: rd.take(int(rd.u8()))}
		if rd.bad || tag <= last {
			return errMalformed
		}
		last = tag
		switch tag {
		case tagTrust:
			r.Trust = v.uvarint(math.MaxUint64)
		case tagWhole:
			copy(r.Whole[:], v.take(len(r.Whole)))
		default:
			continue
		}
		if v.bad || len(v.b) > 0 {
			return errMalformed
		}
	}
	return nil
}
