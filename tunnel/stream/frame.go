package stream

import (
	"encoding/binary"
	"errors"
)

const (
	headerLen = 2
	// minDatagram is WireGuard's smallest, a keepalive; maxDatagram is above its
	// largest at an MTU of 9000.
	minDatagram = 32
	maxDatagram = 9216
	// batchLen is when a batch is full: with what is read last, of usual size,
	// it fits one TLS record (16 KiB; RFC 8446, section 5.1).
	batchLen = 14 << 10
)

// errJunk ends a connection whose other end is not one of ours.
var errJunk = errors.New("what came is no frame of a stream")

// WireGuard's messages, by their first byte; three zero bytes follow.
const (
	typeInitiation = 1
	typeResponse   = 2
	typeCookie     = 3
	typeData       = 4
)

// plausible reports whether d looks like a message of WireGuard (whitepaper,
// section 5.4).
func plausible(d []byte) bool {
	if len(d) < minDatagram || len(d) > maxDatagram || d[1]|d[2]|d[3] != 0 {
		return false
	}
	switch d[0] {
	case typeInitiation:
		return len(d) == 148
	case typeResponse:
		return len(d) == 92
	case typeCookie:
		return len(d) == 64
	}
	return d[0] == typeData
}

// splitter takes what a connection brings apart. What next returns is good
// until the next call of space.
type splitter struct {
	buf  [32 << 10]byte
	r, w int
}

// space is where to read to; never empty once next has returned everything.
func (s *splitter) space() []byte {
	if s.r > 0 {
		s.w = copy(s.buf[:], s.buf[s.r:s.w])
		s.r = 0
	}
	return s.buf[s.w:]
}

// add takes n bytes that were read into space.
func (s *splitter) add(n int) { s.w += n }

// next is the next datagram, empty for a sign of life; ok is false when more
// bytes are needed.
func (s *splitter) next() (d []byte, ok bool, err error) {
	if s.w-s.r < headerLen {
		return nil, false, nil
	}
	n := int(binary.BigEndian.Uint16(s.buf[s.r:]))
	if n > maxDatagram || n > 0 && n < minDatagram {
		return nil, false, errJunk
	}
	if s.w-s.r < headerLen+n {
		return nil, false, nil
	}
	d = s.buf[s.r+headerLen : s.r+headerLen+n]
	if n > 0 && !plausible(d) {
		return nil, false, errJunk
	}
	s.r += headerLen + n
	return d, true, nil
}
