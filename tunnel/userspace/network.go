package userspace

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

var _ tunnel.Network = (*network)(nil)

// network makes system sockets bound to the overlay address. It keeps track of
// them, because a socket does not notice that its interface is gone.
type network struct {
	mu     sync.Mutex // guards the rest
	addr   netip.Addr // invalid before open
	closed bool
	socks  map[io.Closer]struct{}
}

func newNetwork() *network { return &network{socks: map[io.Closer]struct{}{}} }

func (n *network) open(addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr = addr
}

func (n *network) close() {
	n.mu.Lock()
	n.closed = true
	socks := n.socks
	n.socks = nil
	n.mu.Unlock()
	for s := range socks {
		s.Close()
	}
}

func (n *network) own() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return netip.Addr{}, tunnel.ErrClosed
	}
	if !n.addr.IsValid() {
		return netip.Addr{}, errors.New("overlay is not configured yet")
	}
	return n.addr, nil
}

// add keeps a socket until drop, and closes one that comes too late.
func (n *network) add(s io.Closer) error {
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

func (n *network) drop(s io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.socks, s)
}

// DialContext connects from the overlay address.
func (n *network) DialContext(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	own, err := n.own()
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	// The family is fixed, so that package net does not try another one.
	d := net.Dialer{}
	from := netip.AddrPortFrom(own, 0)
	switch network {
	case "tcp", "tcp4":
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
		c, err := d.DialContext(ctx, "tcp4", to.String())
		if err != nil {
			return nil, fmt.Errorf("dial overlay: %w", err)
		}
		t := &tcpConn{c.(*net.TCPConn), n}
		return t, n.add(t)
	case "udp", "udp4":
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
		c, err := d.DialContext(ctx, "udp4", to.String())
		if err != nil {
			return nil, fmt.Errorf("dial overlay: %w", err)
		}
		u := &udpConn{c.(*net.UDPConn), n}
		return u, n.add(u)
	}
	return nil, fmt.Errorf("dial %v: %w", to, net.UnknownNetworkError(network))
}

// Listen accepts TCP connections on the overlay address; an unspecified
// address means that one too, never all of the host's.
func (n *network) Listen(network string, at netip.AddrPort) (net.Listener, error) {
	at, err := n.local(at)
	if err != nil {
		return nil, err
	}
	if network != "tcp" && network != "tcp4" {
		return nil, fmt.Errorf("listen on %v: %w", at, net.UnknownNetworkError(network))
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen on overlay: %w", err)
	}
	t := &listener{l, n}
	return t, n.add(t)
}

// ListenPacket receives UDP packets on the overlay address.
func (n *network) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	at, err := n.local(at)
	if err != nil {
		return nil, err
	}
	if network != "udp" && network != "udp4" {
		return nil, fmt.Errorf("listen on %v: %w", at, net.UnknownNetworkError(network))
	}
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen on overlay: %w", err)
	}
	u := &udpConn{c, n}
	return u, n.add(u)
}

func (n *network) local(at netip.AddrPort) (netip.AddrPort, error) {
	own, err := n.own()
	if err != nil {
		return at, fmt.Errorf("listen on %v: %w", at, err)
	}
	if a := at.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() && a != own {
		return at, fmt.Errorf("listen on %v: the overlay address of this node is %v", at, own)
	}
	return netip.AddrPortFrom(own, at.Port()), nil
}

// The types below are system sockets that say when they are closed.

type tcpConn struct {
	*net.TCPConn
	n *network
}

func (c *tcpConn) Close() error {
	c.n.drop(c)
	return c.TCPConn.Close()
}

type udpConn struct {
	*net.UDPConn
	n *network
}

func (c *udpConn) Close() error {
	c.n.drop(c)
	return c.UDPConn.Close()
}

type listener struct {
	*net.TCPListener
	n *network
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	t := &tcpConn{c, l.n}
	return t, l.n.add(t)
}

func (l *listener) Close() error {
	l.n.drop(l)
	return l.TCPListener.Close()
}
