package bind

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlRoom holds every control message that we send or ask for: a source
// address (IPv6's is the larger), a segment size and a time.
const controlRoom = 128

// told is what the kernel says of a datagram.
type told struct {
	src     source    // the address it was sent to
	segment int       // of a burst, the size of a datagram; 0: it is a single one
	at      time.Time // when it came; zero: unknown
}

// readControl reads control messages. What is cut off or unknown is skipped.
func readControl(b []byte) (t told) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(b) {
			return t
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			t.src = source{netip.AddrFrom4([4]byte(data[4:8])), binary.NativeEndian.Uint32(data)}
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			t.src = source{netip.AddrFrom16([16]byte(data[:16])), binary.NativeEndian.Uint32(data[16:])}
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 2:
			// Kernels write an int or 16 bits; on big-endian machines the first
			// has its value in the last bytes.
			if len(data) >= 4 {
				t.segment = int(int32(binary.NativeEndian.Uint32(data)))
			} else {
				t.segment = int(binary.NativeEndian.Uint16(data))
			}
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			ts := (*unix.Timespec)(unsafe.Pointer(unsafe.SliceData(data)))
			t.at = time.Unix(ts.Unix())
		}
		next := unix.CmsgSpace(size - unix.CmsgLen(0))
		if next > len(b) {
			return t
		}
		b = b[next:]
	}
	return t
}

// addSource appends the wish that a datagram leaves from src.
func addSource(b []byte, src source) []byte {
	switch {
	case !src.addr.IsValid():
		return b
	case src.addr.Is4():
		b, data := addControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		binary.NativeEndian.PutUint32(data, src.ifindex)
		a := src.addr.As4()
		copy(data[4:8], a[:])
		return b
	}
	b, data := addControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	a := src.addr.As16()
	copy(data[:16], a[:])
	binary.NativeEndian.PutUint32(data[16:], src.ifindex)
	return b
}

// addSegment appends the wish that the kernel cuts a burst into segments.
func addSegment(b []byte, size int) []byte {
	b, data := addControl(b, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
	binary.NativeEndian.PutUint16(data, uint16(size))
	return b
}

// addControl appends an empty control message to b, which has the room and
// ends on a boundary, and returns its data too.
func addControl(b []byte, level, kind int32, size int) (whole, data []byte) {
	at := len(b)
	b = b[:at+unix.CmsgSpace(size)]
	clear(b[at:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[at]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	return b, b[at+unix.CmsgLen(0) : at+unix.CmsgLen(size)]
}
