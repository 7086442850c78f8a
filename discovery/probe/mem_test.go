package probe

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// memNet is a little network for a synctest bubble: it delays and loses packets
// as told, per direction.
type memNet struct {
	mu    sync.Mutex // guards the fields below
	conns map[netip.AddrPort]*memConn
	delay time.Duration
	lose  func(from, to netip.AddrPort) bool
	seen  func(from, to netip.AddrPort, b []byte)
	// widths is the largest overlay packet of a direction, where there is one.
	widths map[[2]netip.AddrPort]int
}

func newMemNet(delay time.Duration) *memNet {
	return &memNet{conns: map[netip.AddrPort]*memConn{}, delay: delay, widths: map[[2]netip.AddrPort]int{}}
}

// set changes how the network behaves while it runs.
func (n *memNet) set(lose func(from, to netip.AddrPort) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = lose
}

func (n *memNet) watch(seen func(from, to netip.AddrPort, b []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = seen
}

func (n *memNet) listen(addr netip.AddrPort) *memConn {
	c := &memConn{net: n, addr: addr, signal: make(chan struct{}, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[addr] = c
	return c
}

// hand gives an address to one of several sockets that claim it.
func (n *memNet) hand(addr netip.AddrPort, c *memConn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[addr] = c
}

func (n *memNet) carry(from, to netip.AddrPort, b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen != nil {
		n.seen(from, to, b)
	}
	c := n.conns[to]
	if c == nil || n.lose != nil && n.lose(from, to) {
		return
	}
	if w := n.widths[[2]netip.AddrPort{from, to}]; w > 0 && len(b)+headers(to.Addr()) > w {
		return
	}
	d := memDatagram{from, append([]byte(nil), b...)}
	time.AfterFunc(n.delay, func() { c.deliver(d) })
}

type memDatagram struct {
	from netip.AddrPort
	b    []byte
}

// memConn is one socket. Like a system socket it obeys a passed deadline even
// when packets wait.
type memConn struct {
	net  *memNet
	addr netip.AddrPort

	mu       sync.Mutex // guards the fields below
	queue    []memDatagram
	deadline time.Time
	signal   chan struct{}
	closed   bool
	sendErr  error
	most     int // bytes of a datagram; more is bigErr; 0: any
	bigErr   error
}

var _ net.PacketConn = (*memConn)(nil)

func (c *memConn) deliver(d memDatagram) {
	c.change(func() {
		if len(c.queue) < 2000 {
			c.queue = append(c.queue, d)
		}
	})
}

func (c *memConn) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

func (c *memConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		closed, deadline := c.closed, c.deadline
		late := !deadline.IsZero() && !time.Now().Before(deadline)
		if !closed && !late && len(c.queue) > 0 {
			d := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			return copy(b, d.b), net.UDPAddrFromAddrPort(d.from), nil
		}
		c.mu.Unlock()
		if closed {
			return 0, nil, net.ErrClosed
		}
		if late {
			return 0, nil, os.ErrDeadlineExceeded
		}
		c.wait(deadline)
	}
}

func (c *memConn) wait(deadline time.Time) {
	var timer <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-c.signal:
	case <-timer:
	}
}

func (c *memConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	err := c.sendErr
	if c.most > 0 && len(b) > c.most {
		err = c.bigErr
	}
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	c.net.carry(c.addr, to.(*net.UDPAddr).AddrPort(), b)
	return len(b), nil
}

func (c *memConn) Close() error {
	c.change(func() { c.closed = true })
	return nil
}

func (c *memConn) failSends(err error) { c.change(func() { c.sendErr = err }) }

func (c *memConn) limit(most int, err error) {
	c.change(func() { c.most, c.bigErr = most, err })
}

func (c *memConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }
func (c *memConn) SetReadDeadline(t time.Time) error {
	c.change(func() { c.deadline = t })
	return nil
}
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }

func addr(t testing.TB, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
