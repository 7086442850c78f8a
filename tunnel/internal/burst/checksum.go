package burst

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to a one's complement sum in the order of this machine's bytes
// (RFC 1071, section 2(B)): only [fold] brings it to the network's.
func sum(b []byte, s uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[0:]), 0)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[8:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[16:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[24:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[32:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[40:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[48:]), c)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(p[56:]), c)
		s, c = bits.Add64(s, 0, c)
		s += c
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(b), 0)
		s += c
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		s, c = bits.Add64(s, binary.NativeEndian.Uint64(last[:]), 0)
		s += c
	}
	return s
}

// fold makes 16 bits of a sum, in the network's order of bytes.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], uint16(s))
	return binary.BigEndian.Uint16(b[:])
}

// pseudo is the sum of the pseudo header (RFC 9293, section 3.1; RFC 8200,
// section 8.1). addrs are source and destination as they stand in the packet.
func pseudo(addrs []byte, protocol byte, length int) uint64 {
	var b [4]byte
	b[1] = protocol
	binary.BigEndian.PutUint16(b[2:], uint16(length))
	return sum(addrs, uint64(binary.NativeEndian.Uint32(b[:])))
}
