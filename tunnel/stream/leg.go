package stream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// chunkLen holds what one read may bring: several datagrams of one size, one
// behind the other, the last perhaps shorter.
const chunkLen = 64 << 10

// leg is a connected UDP socket: the kernel lets nothing in but what comes from
// its other end. One goroutine reads and one writes with burst; Write may be
// called by any.
type leg struct {
	*net.UDPConn
	raw syscall.RawConn
	in  half
	out half
}

// openLoopback opens a leg to the device.
func openLoopback(ctx context.Context, device netip.AddrPort) (*leg, error) {
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(tunnelSide, 0))}
	l, err := openLeg(ctx, &d, device)
	if err == nil {
		l.offload()
	}
	return l, err
}

// openOutside opens a leg to the peer.
func openOutside(ctx context.Context, peer netip.AddrPort) (*leg, error) {
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
	l.in.init(l.readOnce)
	l.out.init(l.writeOnce)
	return l, nil
}

// close wakes whoever reads.
func (l *leg) close() { _ = l.UDPConn.Close() }

// addr is the own end.
func (l *leg) addr() netip.AddrPort { return l.LocalAddr().(*net.UDPAddr).AddrPort() }

// maxBurst is how many datagrams, and how many bytes, one write takes (the
// kernel's UDP_MAX_SEGMENTS, and what fits one IP packet).
const (
	maxBurst      = 64
	maxBurstBytes = 60 << 10
)

// burst collects datagrams for one write.
type burst struct {
	leg   *leg
	list  [maxBurst][]byte
	n     int
	bytes int
	over  bool // the last one is shorter: nothing may follow it
}

// add takes a datagram, which must stay as it is until flush.
func (b *burst) add(d []byte) {
	if b.n == maxBurst || b.bytes+len(d) > maxBurstBytes || b.n > 0 && (b.over || len(d) > len(b.list[0])) {
		b.flush()
	}
	b.list[b.n] = d
	b.n++
	b.bytes += len(d)
	b.over = len(d) < len(b.list[0])
}

// flush sends what was collected; what the device cannot take is lost.
func (b *burst) flush() {
	if b.n > 0 {
		b.leg.send(b.list[:b.n])
	}
	b.n, b.bytes, b.over = 0, 0, false
}
