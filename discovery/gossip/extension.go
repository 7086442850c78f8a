package gossip

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// The tail of a record is for what came after version 1 of the format: entries
// of a tag, a one-byte length and a value, by rising tag. Versions that do not
// know a tag skip it; the first version skips the whole tail.
const (
	tagTrust   = 1 // number of the set of roots, base 128
	tagWhole   = 2 // digest of the whole chain, 8 bytes
	tagSeen    = 3 // addresses with ports, see appendAddrPort
	tagLocal   = 4 // the same
	tagDirect  = 5 // IPv4 addresses, 4 bytes each
	tagStreams = 6 // as Seen
	tagNames   = 7 // texts, see appendText
	tagYoung   = 8 // 1
)

// appendExtension writes the tail with its length. A zero value has no entry.
func appendExtension(b []byte, r *record) []byte {
	ext := extensionOf(r)
	return append(binary.AppendUvarint(b, uint64(len(ext))), ext...)
}

func extensionOf(r *record) []byte {
	var ext []byte
	if r.Trust != 0 {
		ext = appendEntry(ext, tagTrust, binary.AppendUvarint(nil, r.Trust))
	}
	if r.Whole != (digest{}) {
		ext = appendEntry(ext, tagWhole, r.Whole[:])
	}
	ext = appendAddrPorts(ext, tagSeen, r.Seen)
	ext = appendAddrPorts(ext, tagLocal, r.Local)
	if len(r.Direct) > 0 {
		var v []byte
		for _, a := range r.Direct {
			v = append(v, a.AsSlice()...)
		}
		ext = appendEntry(ext, tagDirect, v)
	}
	ext = appendAddrPorts(ext, tagStreams, r.Streams)
	if len(r.Names) > 0 {
		var v []byte
		for _, n := range r.Names {
			v = appendText(v, n)
		}
		ext = appendEntry(ext, tagNames, v)
	}
	if r.Young {
		ext = appendEntry(ext, tagYoung, []byte{1})
	}
	return ext
}

func appendEntry(b []byte, tag byte, v []byte) []byte {
	return append(append(b, tag, byte(len(v))), v...)
}

func appendAddrPorts(b []byte, tag byte, list []netip.AddrPort) []byte {
	if len(list) == 0 {
		return b
	}
	var v []byte
	for _, e := range list {
		v = appendAddrPort(v, e)
	}
	return appendEntry(b, tag, v)
}

// readExtension reads the tail into the record. What it holds is judged by
// checkAnnouncement.
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
		case tagSeen:
			r.Seen = v.addrPorts()
		case tagLocal:
			r.Local = v.addrPorts()
		case tagDirect:
			for len(v.b) > 0 && !v.bad {
				if a, ok := netip.AddrFromSlice(v.take(4)); ok {
					r.Direct = append(r.Direct, a)
				}
			}
		case tagStreams:
			r.Streams = v.addrPorts()
		case tagNames:
			for len(v.b) > 0 && !v.bad {
				r.Names = append(r.Names, v.text(math.MaxUint8))
			}
		case tagYoung:
			r.Young = v.u8() == 1
		default:
			continue
		}
		if v.bad || len(v.b) > 0 {
			return errMalformed
		}
	}
	return nil
}

// addrPorts reads to the end.
func (r *reader) addrPorts() (list []netip.AddrPort) {
	for len(r.b) > 0 && !r.bad {
		list = append(list, r.addrPort())
	}
	return list
}
