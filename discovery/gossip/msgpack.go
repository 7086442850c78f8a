package gossip

import (
	"encoding/binary"
	"io"
	"math"
)

// byteSource is what messages are read from: a datagram in memory or a stream.
type byteSource interface {
	io.Reader
	io.ByteReader
}

// unpacker reads the little of MessagePack that memberlist writes: maps with
// string keys and scalar values. Arrays, floats, extensions and nested maps are
// refused, although memberlist's own decoder would take some of them for a
// message: one form only, so that what is judged here is what it sees.
// Format bytes: https://github.com/msgpack/msgpack/blob/master/spec.md.
type unpacker struct{ r byteSource }

// mapLen reads the head of a map with at most limit entries.
func (u unpacker) mapLen(limit int) (int, error) {
	c, err := u.r.ReadByte()
	if err != nil {
		return 0, err
	}
	n := 0
	switch {
	case c&0xf0 == 0x80:
		n = int(c & 0x0f)
	case c == 0xde:
		v, err := u.big(2)
		if err != nil {
			return 0, err
		}
		n = int(v)
	default:
		return 0, errMalformed
	}
	if n > limit {
		return 0, errMalformed
	}
	return n, nil
}

// key reads a map key.
func (u unpacker) key() (string, error) {
	c, err := u.r.ReadByte()
	if err != nil {
		return "", err
	}
	b, err := u.raw(c, 31)
	return string(b), err
}

// scalar reads one value: uint64, bool, []byte (nil for nil, strings too) of
// at most limit bytes. Negative numbers are refused.
func (u unpacker) scalar(limit int) (any, error) {
	c, err := u.r.ReadByte()
	if err != nil {
		return nil, err
	}
	switch {
	case c <= 0x7f:
		return uint64(c), nil
	case c == 0xc0:
		return []byte(nil), nil
	case c == 0xc2, c == 0xc3:
		return c == 0xc3, nil
	case c >= 0xcc && c <= 0xcf:
		return u.big(1 << (c - 0xcc))
	case c >= 0xd0 && c <= 0xd3:
		size := 1 << (c - 0xd0)
		v, err := u.big(size)
		if err != nil || v > math.MaxUint64>>1>>(64-8*size) {
			return nil, errMalformed
		}
		return v, nil
	}
	return u.raw(c, limit)
}

// raw reads a string or binary value whose format byte is c.
func (u unpacker) raw(c byte, limit int) ([]byte, error) {
	var n uint64
	var err error
	switch {
	case c&0xe0 == 0xa0:
		n = uint64(c & 0x1f)
	case c == 0xd9, c == 0xc4:
		n, err = u.big(1)
	case c == 0xda, c == 0xc5:
		n, err = u.big(2)
	case c == 0xdb, c == 0xc6:
		n, err = u.big(4)
	default:
		return nil, errMalformed
	}
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, errMalformed
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(u.r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// big reads a big-endian number of size bytes.
func (u unpacker) big(size int) (uint64, error) {
	var v uint64
	for range size {
		c, err := u.r.ReadByte()
		if err != nil {
			return 0, err
		}
		v = v<<8 | uint64(c)
	}
	return v, nil
}

func packMap(b []byte, n int) []byte { return append(b, 0x80|byte(n)) } // n <= 15

func packUint(b []byte, v uint64) []byte {
	switch {
	case v <= 0x7f:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func packBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// packRaw writes at most 65535 bytes in the old raw form, the one memberlist
// itself writes for strings and bytes.
func packRaw(b []byte, v string) []byte {
	if len(v) < 32 {
		return append(append(b, 0xa0|byte(len(v))), v...)
	}
	return append(binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(v))), v...)
}
