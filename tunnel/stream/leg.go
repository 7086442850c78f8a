package stream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// leg is a connected UDP socket: the kernel lets nothing in but what comes from
// its other end.
type leg struct {
	*net.UDPConn
	raw  syscall.RawConn
	poll func(fd uintptr) bool // made once: a closure costs an allocation
	into []byte
	n    int
}

// loopback opens a leg to the device.
func loopback(ctx context.Context, device netip.AddrPort) (*leg, error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(tunnelSide, 0))}
	return openLeg(ctx, &d, device)
}

// outside opens a leg to the peer.
func outside(ctx context.Context, peer netip.AddrPort) (*leg, error) {
	return openLeg(ctx, &net.Dialer{}, peer)
}

func openLeg(ctx context.Context, d *net.Dialer, to netip.AddrPort) (*leg, error) {
	c, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	l := &leg{UDPConn: c.(*net.UDPConn)}
	if l.raw, err = l.SyscallConn(); err != nil {
		c.Close()
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	l.poll = l.pollOnce
	return l, nil
}

// more reads a datagram that is there already; 0: none. Only the goroutine that
// reads may call it.
func (l *leg) more(b []byte) int {
	l.into, l.n = b, 0
	if err := l.raw.Read(l.poll); err != nil {
		return 0
	}
	return l.n
}

// addr is the own end.
func (l *leg) addr() netip.AddrPort { return l.LocalAddr().(*net.UDPAddr).AddrPort() }
