package tunneltest

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	packetQueue = 256   // datagrams waiting at a receiver
	maxDatagram = 65507 // bytes of payload in IPv4
)

type datagram struct {
	from netip.AddrPort
	data []byte
}

type packetConn struct {
	d      *Device
	local  netip.AddrPort
	remote netip.AddrPort // of a connected socket
	queue  []datagram
	rd     deadline
	closed bool
}

// packet opens a UDP socket; u.mu is held and the port is free.
func (d *Device) packet(at netip.AddrPort) *packetConn {
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), d.port())
	}
	p := &packetConn{d: d, local: at}
	d.packets[at] = p
	return p
}

func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	u := p.d.u
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		if p.closed {
			return 0, nil, p.op("read", net.ErrClosed)
		}
		if err := p.rd.err(); err != nil {
			return 0, nil, p.op("read", err)
		}
		if len(p.queue) > 0 {
			g := p.queue[0]
			p.queue = p.queue[1:]
			return copy(b, g.data), net.UDPAddrFromAddrPort(g.from), nil
		}
		u.cond.Wait()
	}
}

func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	ua, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, p.op("write", syscall.EAFNOSUPPORT)
	}
	at := ua.AddrPort()
	return p.send(b, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
}

func (p *packetConn) send(b []byte, to netip.AddrPort) (int, error) {
	u := p.d.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.closed {
		return 0, p.op("write", net.ErrClosed)
	}
	if len(b) > maxDatagram {
		return 0, p.op("write", syscall.EMSGSIZE)
	}
	far, hops := u.path(p.d, to.Addr())
	if far == nil {
		return len(b), nil // lost, as UDP is
	}
	count(hops, len(b))
	if q := far.packets[to]; q != nil && len(q.queue) < packetQueue && (!q.remote.IsValid() || q.remote == p.local) {
		q.queue = append(q.queue, datagram{p.local, append([]byte(nil), b...)})
		u.cond.Broadcast()
	}
	return len(b), nil
}

func (p *packetConn) Read(b []byte) (int, error) {
	n, _, err := p.ReadFrom(b)
	return n, err
}

func (p *packetConn) Write(b []byte) (int, error) {
	if !p.remote.IsValid() {
		return 0, p.op("write", syscall.EDESTADDRREQ)
	}
	return p.send(b, p.remote)
}

func (p *packetConn) Close() error {
	p.d.u.mu.Lock()
	defer p.d.u.mu.Unlock()
	if p.closed {
		return p.op("close", net.ErrClosed)
	}
	p.closed = true
	p.rd.stop()
	delete(p.d.packets, p.local)
	p.d.u.cond.Broadcast()
	return nil
}

func (p *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.local) }

func (p *packetConn) RemoteAddr() net.Addr {
	if !p.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(p.remote)
}

func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.d.u.mu.Lock()
	defer p.d.u.mu.Unlock()
	if p.closed {
		return p.op("set", net.ErrClosed)
	}
	p.rd.set(p.d.u, t)
	return nil
}

// SetWriteDeadline accepts any time: sending never waits.
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }

func (p *packetConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

func (p *packetConn) op(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: p.LocalAddr(), Err: err}
}
