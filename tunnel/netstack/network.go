package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/hostnet"
)

var _ tunnel.Network = (*network)(nil)

// network is the stack as package net would show it.
type network struct {
	mu     sync.Mutex // guards the rest
	stack  *stack.Stack
	v4, v6 netip.Addr // v6 is invalid where the overlay is IPv4 only
	closed bool
}

func (n *network) open(s *stack.Stack, v4, v6 netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stack, n.v4, n.v6 = s, v4, v6
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
}

// use is the stack and the own address of a family.
func (n *network) use(six bool) (*stack.Stack, netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, netip.Addr{}, tunnel.ErrClosed
	case n.stack == nil:
		return nil, netip.Addr{}, errors.New("overlay is not configured yet")
	case !six:
		return n.stack, n.v4, nil
	case !n.v6.IsValid():
		return nil, netip.Addr{}, errors.New("this node has no IPv6 overlay address")
	}
	return n.stack, n.v6, nil
}

// DialContext connects to an overlay address. "udp" gives a connected socket.
func (n *network) DialContext(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	kind := "tcp"
	if strings.HasPrefix(network, "udp") {
		kind = "udp"
	}
	_, six, err := hostnet.Family(kind, network, to.Addr())
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	s, own, err := n.use(six)
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	from, dst := full(netip.AddrPortFrom(own, 0)), full(to)
	if kind == "tcp" {
		c, err := dialTCP(ctx, s, from, dst)
		if err != nil {
			return nil, fmt.Errorf("dial tcp %v: %w", to, err)
		}
		return c, nil
	}
	c, err := gonet.DialUDP(s, &from, &dst, protocolOf(from))
	if err != nil {
		return nil, fmt.Errorf("dial udp %v: %w", to, plain(err))
	}
	return &udpConn{UDPConn: c}, nil
}

// Listen accepts TCP connections on an own overlay address; an unspecified
// address means the IPv4 one ("tcp6": the IPv6 one).
func (n *network) Listen(network string, at netip.AddrPort) (net.Listener, error) {
	s, local, err := n.local("tcp", network, at)
	if err != nil {
		return nil, err
	}
	l, err := listenTCP(s, local)
	if err != nil {
		return nil, fmt.Errorf("listen on tcp %v: %w", at, err)
	}
	return l, nil
}

// ListenPacket receives UDP packets on an own overlay address, as Listen does.
func (n *network) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	s, local, err := n.local("udp", network, at)
	if err != nil {
		return nil, err
	}
	c, err := gonet.DialUDP(s, &local, nil, protocolOf(local))
	if err != nil {
		return nil, fmt.Errorf("listen on udp %v: %w", at, plain(err))
	}
	return &udpConn{UDPConn: c}, nil
}

func (n *network) local(kind, network string, at netip.AddrPort) (*stack.Stack, tcpip.FullAddress, error) {
	_, six, err := hostnet.Family(kind, network, at.Addr())
	if err != nil {
		return nil, tcpip.FullAddress{}, fmt.Errorf("listen on %v: %w", at, err)
	}
	s, own, err := n.use(six)
	if err != nil {
		return nil, tcpip.FullAddress{}, fmt.Errorf("listen on %v: %w", at, err)
	}
	if a := at.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() && a != own {
		return nil, tcpip.FullAddress{}, fmt.Errorf("listen on %v: the overlay address of this node is %v", at, own)
	}
	return s, full(netip.AddrPortFrom(own, at.Port())), nil
}
