package bind

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is struct mmsghdr: one datagram, or one burst of them.
type message struct {
	hdr unix.Msghdr
	n   uint32 // bytes moved
}

// address is room for a socket address of either family.
type address struct{ unix.RawSockaddrInet6 }

// set writes where e is and returns the size that this takes.
func (a *address) set(e *Endpoint) uint32 {
	ip := e.dst.Addr()
	if ip.Is4() {
		s := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		*s = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: bigEndian(e.dst.Port()), Addr: ip.As4()}
		return unix.SizeofSockaddrInet4
	}
	a.RawSockaddrInet6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: bigEndian(e.dst.Port()), Addr: ip.As16(), Scope_id: e.scope}
	return unix.SizeofSockaddrInet6
}

// get reads an address of the given family.
func (a *address) get(is6 bool) (dst netip.AddrPort, scope uint32) {
	if !is6 {
		s := (*unix.RawSockaddrInet4)(unsafe.Pointer(a))
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), bigEndian(s.Port)), 0
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), bigEndian(a.Port)), a.Scope_id
}

// bigEndian turns a port between this machine's and the network's order.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// mmsg is sendmmsg or recvmmsg without waiting. It returns how many messages
// were moved; the error is a [unix.Errno].
func mmsg(call, fd uintptr, msgs []message) (int, error) {
	for {
		n, _, errno := unix.Syscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
