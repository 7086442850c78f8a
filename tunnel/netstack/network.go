package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"drawbridge/tunnel"
)

var _ tunnel.Network = (*network)(nil)

// network is the stack as package net would show it.
type network struct {
	mu     sync.Mutex // guards the rest
	stack  *stack.Stack
	addr   netip.Addr
	closed bool
}

func (n *network) open(s *stack.Stack, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stack, n.addr = s, addr
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
}

func (n *network) use() (*stack.Stack, netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, netip.Addr{}, tunnel.ErrClosed
	}
	if n.stack == nil {
		return nil, netip.Addr{}, errors.New("overlay is not configured yet")
	}
	return n.stack, n.addr, nil
}

// DialContext connects to an overlay address. "udp" gives a connected socket.
func (n *network) DialContext(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	s, own, err := n.use()
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	if !to.Addr().Unmap().Is4() {
		return nil, fmt.Errorf("dial %v: not an IPv4 address", to)
	}
	switch network {
	case "tcp", "tcp4":
		c, err := dialTCP(ctx, s, full(netip.AddrPortFrom(own, 0)), full(to))
		if err != nil {
			return nil, fmt.Errorf("dial tcp %v: %w", to, err)
		}
		return c, nil
	case "udp", "udp4":
		from, dst := full(netip.AddrPortFrom(own, 0)), full(to)
		c, err := gonet.DialUDP(s, &from, &dst, ipv4.ProtocolNumber)
		if err != nil {
			return nil, fmt.Errorf("dial udp %v: %w", to, plain(err))
		}
		return &udpConn{UDPConn: c}, nil
	}
	return nil, fmt.Errorf("dial %v: %w", to, net.UnknownNetworkError(network))
}

// Listen accepts TCP connections on the own overlay address; an unspecified
// address means that one too.
func (n *network) Listen(network string, at netip.AddrPort) (net.Listener, error) {
	s, local, err := n.local(at)
	if err != nil {
		return nil, err
	}
	if network != "tcp" && network != "tcp4" {
		return nil, fmt.Errorf("listen on %v: %w", at, net.UnknownNetworkError(network))
	}
	l, err := listenTCP(s, local)
	if err != nil {
		return nil, fmt.Errorf("listen on tcp %v: %w", at, err)
	}
	return l, nil
}

// ListenPacket receives UDP packets on the own overlay address.
func (n *network) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	s, local, err := n.local(at)
	if err != nil {
		return nil, err
	}
	if network != "udp" && network != "udp4" {
		return nil, fmt.Errorf("listen on %v: %w", at, net.UnknownNetworkError(network))
	}
	c, err := gonet.DialUDP(s, &local, nil, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("listen on udp %v: %w", at, plain(err))
	}
	return &udpConn{UDPConn: c}, nil
}

func (n *network) local(at netip.AddrPort) (*stack.Stack, tcpip.FullAddress, error) {
	s, own, err := n.use()
	if err != nil {
		return nil, tcpip.FullAddress{}, fmt.Errorf("listen on %v: %w", at, err)
	}
	if a := at.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() && a != own {
		return nil, tcpip.FullAddress{}, fmt.Errorf("listen on %v: the overlay address of this node is %v", at, own)
	}
	return s, full(netip.AddrPortFrom(own, at.Port())), nil
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(a.Addr().Unmap().As4()), Port: a.Port()}
}
