package burst

import (
	"encoding/binary"
	"errors"
)

// HeaderLen is the size of struct virtio_net_hdr in front of each packet.
const HeaderLen = 10

const (
	needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM

	kindNone = 0 // VIRTIO_NET_HDR_GSO_NONE and so on
	kindTCP4 = 1
	kindTCP6 = 4
	kindUDP  = 5

	protoTCP = 6
	protoUDP = 17

	flagFIN = 1
	flagPSH = 8
	flagACK = 16

	sizeUDP = 8
)

var errForm = errors.New("the TUN handed over a packet of a form that we did not ask for")

// header is struct virtio_net_hdr; it stands in this machine's byte order.
type header struct {
	flags, kind                        byte
	headers, segment, csumAt, csumHere uint16 // hdr_len, gso_size, csum_start, csum_offset
}

func readHeader(b []byte) header {
	return header{
		flags: b[0], kind: b[1],
		headers: binary.NativeEndian.Uint16(b[2:]), segment: binary.NativeEndian.Uint16(b[4:]),
		csumAt: binary.NativeEndian.Uint16(b[6:]), csumHere: binary.NativeEndian.Uint16(b[8:]),
	}
}

func (h header) write(b []byte) {
	b[0], b[1] = h.flags, h.kind
	binary.NativeEndian.PutUint16(b[2:], h.headers)
	binary.NativeEndian.PutUint16(b[4:], h.segment)
	binary.NativeEndian.PutUint16(b[6:], h.csumAt)
	binary.NativeEndian.PutUint16(b[8:], h.csumHere)
}

// addresses is the part of an IP header that holds source and destination.
func addresses(ip []byte) []byte {
	if ip[0]>>4 == 4 {
		return ip[12:20]
	}
	return ip[8:40]
}
