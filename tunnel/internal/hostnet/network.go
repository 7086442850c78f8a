package hostnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"drawbridge/tunnel"
)

var _ tunnel.Network = (*Network)(nil)

// Network makes system sockets bound to the overlay addresses and keeps track
// of them.
type Network struct {
	mu     sync.Mutex // guards the rest
	v4, v6 netip.Addr // invalid before Open; v6 also where the overlay is IPv4 only
	closed bool
	socks  map[io.Closer]struct{}
}

// New makes a network that refuses until Open.
func New() *Network { return &Network{socks: map[io.Closer]struct{}{}} }

// Open says which addresses this node has. An invalid v6 is none.
func (n *Network) Open(v4, v6 netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.v4, n.v6 = v4, v6
}

// Close ends all sockets; from now on every call is [tunnel.ErrClosed].
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	socks := n.socks
	n.socks = nil
	n.mu.Unlock()
	for s := range socks {
		s.Close()
	}
}

// own is the own address of a family.
func (n *Network) own(six bool) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return netip.Addr{}, tunnel.ErrClosed
	case !n.v4.IsValid():
		return netip.Addr{}, errors.New("overlay is not configured yet")
	case !six:
		return n.v4, nil
	case !n.v6.IsValid():
		return netip.Addr{}, errors.New("this node has no IPv6 overlay address")
	}
	return n.v6, nil
}

// add keeps a socket until drop, and closes one that comes too late.
func (n *Network) add(s io.Closer) error {
	n.mu.Lock()
	late := n.closed
	if !late {
		n.socks[s] = struct{}{}
	}
	n.mu.Unlock()
	if late {
		s.Close()
		return tunnel.ErrClosed
	}
	return nil
}

func (n *Network) drop(s io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.socks, s)
}

// Family is network, which must be of a kind ("tcp" or "udp"), with its family said, "tcp4" for "tcp" to an IPv4 address,
// so that package net does not try another one. An address that says nothing
// means IPv4, unless the network does.
func Family(kind, network string, a netip.Addr) (fixed string, six bool, err error) {
	six = a.Is6() && !a.Is4In6() && !a.IsUnspecified() || network == kind+"6"
	known := network == kind || network == kind+"4" && !six || network == kind+"6" && !a.Unmap().Is4()
	if !known {
		return "", six, net.UnknownNetworkError(network)
	}
	if six {
		return kind + "6", true, nil
	}
	return kind + "4", false, nil
}

// DialContext connects from the overlay address.
func (n *Network) DialContext(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	kind := "tcp"
	if len(network) >= 3 && network[:3] == "udp" {
		kind = "udp"
	}
	fixed, six, err := Family(kind, network, to.Addr())
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	own, err := n.own(six)
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0))}
	if kind == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0))
	}
	c, err := d.DialContext(ctx, fixed, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String())
	if err != nil {
		return nil, fmt.Errorf("dial overlay: %w", err)
	}
	if u, ok := c.(*net.UDPConn); ok {
		u := &udpConn{u, n}
		return u, n.add(u)
	}
	t := &tcpConn{c.(*net.TCPConn), n}
	return t, n.add(t)
}

// Listen accepts TCP connections on an overlay address; an unspecified
// address means the IPv4 one ("tcp6": the IPv6 one), never all of the host's.
func (n *Network) Listen(network string, at netip.AddrPort) (net.Listener, error) {
	at, fixed, err := n.local("tcp", network, at)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP(fixed, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen on overlay: %w", err)
	}
	t := &listener{l, n}
	return t, n.add(t)
}

// ListenPacket receives UDP packets on an overlay address, as Listen does.
func (n *Network) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	at, fixed, err := n.local("udp", network, at)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP(fixed, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen on overlay: %w", err)
	}
	u := &udpConn{c, n}
	return u, n.add(u)
}

func (n *Network) local(kind, network string, at netip.AddrPort) (netip.AddrPort, string, error) {
	fixed, six, err := Family(kind, network, at.Addr())
	if err != nil {
		return at, "", fmt.Errorf("listen on %v: %w", at, err)
	}
	own, err := n.own(six)
	if err != nil {
		return at, "", fmt.Errorf("listen on %v: %w", at, err)
	}
	if a := at.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() && a != own {
		return at, "", fmt.Errorf("listen on %v: the overlay address of this node is %v", at, own)
	}
	return netip.AddrPortFrom(own, at.Port()), fixed, nil
}
