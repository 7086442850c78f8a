package netstack

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	backlog = 1024 // connections waiting to be accepted
	// A peer that vanished is noticed after idle + count * interval, 2.5
	// minutes; the figures are those of package net.
	keepIdle     = 15 * time.Second
	keepInterval = 15 * time.Second
	keepCount    = 9
)

// dialTCP connects from one address of the stack to another. The adapter of
// the stack could do it, but its connections cannot be told to keep alive, and
// would stay for ever when the other host disappears.
func dialTCP(ctx context.Context, s *stack.Stack, from, to tcpip.FullAddress) (net.Conn, error) {
	var wq waiter.Queue
	ep, terr := s.NewEndpoint(tcp.ProtocolNumber, protocolOf(from), &wq)
	if terr != nil {
		return nil, stackError("dial", to, terr)
	}
	if terr := ep.Bind(from); terr != nil {
		ep.Close()
		return nil, stackError("dial", to, terr)
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)

	terr = ep.Connect(to)
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			ep.Close()
			return nil, ctx.Err()
		case <-ready:
			terr = ep.LastError()
		}
	}
	if terr != nil {
		ep.Close()
		return nil, stackError("dial", to, terr)
	}
	return newConn(&wq, ep), nil
}

func newConn(wq *waiter.Queue, ep tcpip.Endpoint) *tcpConn {
	ep.SocketOptions().SetKeepAlive(true)
	idle, interval := tcpip.KeepaliveIdleOption(keepIdle), tcpip.KeepaliveIntervalOption(keepInterval)
	ep.SetSockOpt(&idle)
	ep.SetSockOpt(&interval)
	ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepCount)
	// As package net does: small writes leave at once.
	ep.SocketOptions().SetDelayOption(false)
	return &tcpConn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}
}

// listener accepts connections of the stack.
type listener struct {
	ep     tcpip.Endpoint
	wq     *waiter.Queue
	addr   net.Addr
	once   sync.Once
	closed chan struct{}
}

func listenTCP(s *stack.Stack, at tcpip.FullAddress) (*listener, error) {
	l := &listener{wq: new(waiter.Queue), closed: make(chan struct{})}
	ep, terr := s.NewEndpoint(tcp.ProtocolNumber, protocolOf(at), l.wq)
	if terr != nil {
		return nil, stackError("listen", at, terr)
	}
	if terr = ep.Bind(at); terr == nil {
		terr = ep.Listen(backlog)
	}
	if terr != nil {
		ep.Close()
		return nil, stackError("listen", at, terr)
	}
	got, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, stackError("listen", at, terr)
	}
	l.ep, l.addr = ep, tcpAddr(got)
	return l, nil
}

func (l *listener) Accept() (net.Conn, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, terr := l.ep.Accept(nil)
		if terr == nil {
			return newConn(wq, ep), nil
		}
		if _, wait := terr.(*tcpip.ErrWouldBlock); !wait {
			// A listener of the stack fails for good only: it was closed, by
			// its owner or with the stack.
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
		}
		select {
		case <-ready:
		case <-l.closed:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
		}
	}
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		l.ep.Close()
		err = nil
	})
	return err
}

func (l *listener) Addr() net.Addr { return l.addr }

// tcpConn makes the stack's connection fail with the errors of package net:
// callers test for net.ErrClosed, os.ErrDeadlineExceeded and system error
// numbers and must not care which backend they are on.
type tcpConn struct {
	*gonet.TCPConn
	ep     tcpip.Endpoint
	closed atomic.Bool
}

func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, after(&c.closed, err)
}

func (c *tcpConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, after(&c.closed, err)
}

func (c *tcpConn) CloseWrite() error { return after(&c.closed, c.TCPConn.CloseWrite()) }
func (c *tcpConn) CloseRead() error  { return after(&c.closed, c.TCPConn.CloseRead()) }

// SetLinger with 0 makes Close reset the connection; see [net.TCPConn].
func (c *tcpConn) SetLinger(seconds int) error {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: seconds >= 0, Timeout: time.Duration(max(seconds, 0)) * time.Second})
	return nil
}

func (c *tcpConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	// Readers and writers wake on a deadline, not on the endpoint's end.
	_ = c.TCPConn.SetDeadline(time.Unix(1, 0))
	return c.TCPConn.Close()
}

func tcpAddr(a tcpip.FullAddress) *net.TCPAddr {
	return &net.TCPAddr{IP: a.Addr.AsSlice(), Port: int(a.Port)}
}

func stackError(op string, at tcpip.FullAddress, err tcpip.Error) error {
	return plain(&net.OpError{Op: op, Net: "tcp", Addr: tcpAddr(at), Err: stackWord(err.String())})
}

// stackWord is an error as the stack words it.
type stackWord string

func (w stackWord) Error() string { return string(w) }
