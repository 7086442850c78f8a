package tunneltest

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// window is how many bytes travel unread in one direction.
const window = 64 << 10

type listener struct {
	d      *Device
	at     netip.AddrPort
	queue  []*conn
	closed bool
}

func (l *listener) Accept() (net.Conn, error) {
	u := l.d.u
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		u.cond.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

func (l *listener) Close() error {
	l.d.u.mu.Lock()
	defer l.d.u.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	delete(l.d.listeners, l.at)
	for _, c := range l.queue {
		c.end()
	}
	l.d.u.cond.Broadcast()
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// half is one direction of a connection.
type half struct {
	buf    []byte
	from   *Device
	to     netip.Addr
	fin    bool // the writer is done
	unread bool // the reader is gone
}

// up follows the direction's path; a finished side still acknowledges.
func (h *half) up(u *Underlay) ([]hop, bool) {
	far, hops := u.path(h.from, h.to)
	return hops, far != nil
}

type conn struct {
	d             *Device
	in, out       *half
	local, remote netip.AddrPort
	rd, wd        deadline
	closed        bool
}

// connect makes both ends of a connection to l; u.mu is held.
func (d *Device) connect(l *listener, to netip.AddrPort) *conn {
	there := &half{from: d, to: to.Addr()}
	own := d.own(to.Addr())
	back := &half{from: l.d, to: own}
	near := &conn{d: d, in: back, out: there, local: netip.AddrPortFrom(own, d.port()), remote: to}
	far := &conn{d: l.d, in: there, out: back, local: to, remote: near.local}
	d.conns[near], l.d.conns[far] = true, true
	l.queue = append(l.queue, far)
	d.u.cond.Broadcast()
	return near
}

func (c *conn) Read(b []byte) (int, error) {
	u := c.d.u
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		if c.closed {
			return 0, c.op("read", net.ErrClosed)
		}
		if err := c.rd.err(); err != nil {
			return 0, c.op("read", err)
		}
		if len(c.in.buf) > 0 {
			n := copy(b, c.in.buf)
			c.in.buf = c.in.buf[n:]
			u.cond.Broadcast()
			return n, nil
		}
		if c.in.fin {
			if _, ok := c.in.up(u); ok {
				return 0, io.EOF
			}
		}
		u.cond.Wait()
	}
}

func (c *conn) Write(b []byte) (int, error) {
	u := c.d.u
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for n < len(b) {
		if c.closed {
			return n, c.op("write", net.ErrClosed)
		}
		if c.out.fin {
			return n, c.op("write", syscall.EPIPE)
		}
		if err := c.wd.err(); err != nil {
			return n, c.op("write", err)
		}
		if hops, ok := c.out.up(u); ok {
			if c.out.unread {
				return n, c.op("write", syscall.ECONNRESET)
			}
			if room := window - len(c.out.buf); room > 0 {
				k := min(room, len(b)-n)
				c.out.buf = append(c.out.buf, b[n:n+k]...)
				count(hops, k)
				n += k
				u.cond.Broadcast()
				continue
			}
		}
		u.cond.Wait()
	}
	return n, nil
}

// CloseWrite ends the sending direction only.
func (c *conn) CloseWrite() error {
	c.d.u.mu.Lock()
	defer c.d.u.mu.Unlock()
	if c.closed {
		return c.op("close", net.ErrClosed)
	}
	c.out.fin = true
	c.d.u.cond.Broadcast()
	return nil
}

func (c *conn) Close() error {
	c.d.u.mu.Lock()
	defer c.d.u.mu.Unlock()
	if c.closed {
		return c.op("close", net.ErrClosed)
	}
	c.end()
	c.d.u.cond.Broadcast()
	return nil
}

func (c *conn) end() {
	c.closed, c.out.fin, c.in.unread = true, true, true
	c.rd.stop()
	c.wd.stop()
	delete(c.d.conns, c)
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error      { return c.limit(t, &c.rd, &c.wd) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.limit(t, &c.rd) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.limit(t, &c.wd) }

func (c *conn) limit(t time.Time, ds ...*deadline) error {
	c.d.u.mu.Lock()
	defer c.d.u.mu.Unlock()
	if c.closed {
		return c.op("set", net.ErrClosed)
	}
	for _, d := range ds {
		d.set(c.d.u, t)
	}
	return nil
}

func (c *conn) op(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
