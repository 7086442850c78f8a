package gossip

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// errMalformed is the only complaint about bytes from a peer: the details help
// nobody but an attacker.
var errMalformed = errors.New("malformed")

// reader takes bounded values off a byte slice. After the first failure every
// value is zero and bad stays true, so that a decoder checks once at the end.
type reader struct {
	b   []byte
	bad bool
}

// take returns the next n bytes, which alias the input.
func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	v := r.take(1)
	if r.bad {
		return 0
	}
	return v[0]
}

func (r *reader) u16() uint16 {
	v := r.take(2)
	if r.bad {
		return 0
	}
	return binary.BigEndian.Uint16(v)
}

func (r *reader) u64() uint64 {
	v := r.take(8)
	if r.bad {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// uvarint reads a base-128 number of at most limit in its shortest form only:
// a value has one encoding.
func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// text reads a string of at most limit printable ASCII characters behind its
// one-byte length: names are printed on terminals and into logs.
func (r *reader) text(limit int) string {
	n := int(r.u8())
	if n > limit {
		r.bad = true
	}
	v := r.take(n)
	if !printable(string(v)) {
		r.bad = true
		return ""
	}
	return string(v)
}

// block reads bytes behind their two-byte length, 1 to limit of them.
func (r *reader) block(limit int) []byte {
	n := int(r.u16())
	if n == 0 || n > limit {
		r.bad = true
	}
	return r.take(n)
}

// addrPort reads an address behind its one-byte length, 4 or 16, and a port.
func (r *reader) addrPort() netip.AddrPort {
	addr, ok := netip.AddrFromSlice(r.take(int(r.u8())))
	port := r.u16()
	if !ok || addr.Is4In6() {
		r.bad = true
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func appendText(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

func appendAddrPort(b []byte, e netip.AddrPort) []byte {
	addr := e.Addr().Unmap().AsSlice()
	b = append(append(b, byte(len(addr))), addr...)
	return binary.BigEndian.AppendUint16(b, e.Port())
}

func appendBlock(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}
