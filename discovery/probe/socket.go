package probe

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// socket hides the two ways of package net to name a UDP address: the one with
// netip does not allocate, but only system sockets have it.
type socket struct {
	conn    net.PacketConn
	fast    addrPortConn // nil: not a system socket
	renewed time.Time    // when the write deadline was last set
}

type addrPortConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

var _ addrPortConn = (*net.UDPConn)(nil)

func newSocket(c net.PacketConn) *socket {
	fast, _ := c.(addrPortConn)
	return &socket{conn: c, fast: fast}
}

// read returns one datagram and its source. A source that is no UDP address
// comes out as the zero value, which is nobody's.
func (s *socket) read(b []byte) (int, netip.AddrPort, error) {
	if s.fast != nil {
		n, from, err := s.fast.ReadFromUDPAddrPort(b)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, addr, err := s.conn.ReadFrom(b)
	if u, ok := addr.(*net.UDPAddr); ok && u != nil {
		from := u.AddrPort()
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	return n, netip.AddrPort{}, err
}

// write sends one datagram; it waits for a full socket no longer than writeLimit.
func (s *socket) write(b []byte, to *peer, now time.Time) error {
	if now.Sub(s.renewed) > writeLimit/4 {
		if err := s.conn.SetWriteDeadline(now.Add(writeLimit)); err != nil {
			return err
		}
		s.renewed = now
	}
	var err error
	if s.fast != nil {
		_, err = s.fast.WriteToUDPAddrPort(b, to.to)
	} else {
		_, err = s.conn.WriteTo(b, to.udp)
	}
	return err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
