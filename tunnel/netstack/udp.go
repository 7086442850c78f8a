package netstack

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// udpConn does for packets what tcpConn does for streams.
type udpConn struct {
	*gonet.UDPConn
	closed atomic.Bool
}

func (c *udpConn) Read(b []byte) (int, error) {
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.UDPConn.ReadFrom(b)
	if errors.Is(err, io.EOF) { // a packet socket ends by Close only
		err = net.ErrClosed
	}
	return n, from, after(&c.closed, err)
}

func (c *udpConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, after(&c.closed, err)
}

func (c *udpConn) WriteTo(b []byte, to net.Addr) (int, error) {
	ua, ok := to.(*net.UDPAddr)
	six := c.LocalAddr().(*net.UDPAddr).IP.To4() == nil
	if !ok || six != (ua.IP.To4() == nil) {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: syscall.EAFNOSUPPORT}
	}
	dst := &net.UDPAddr{IP: ua.IP, Port: ua.Port}
	if !six {
		dst.IP = ua.IP.To4() // the stack takes the family from the length
	}
	n, err := c.UDPConn.WriteTo(b, dst)
	return n, after(&c.closed, err)
}

func (c *udpConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = c.UDPConn.SetDeadline(time.Unix(1, 0)) // wakes readers
	return c.UDPConn.Close()
}

// after says what an error means on a connection that may be closed by us.
func after(closed *atomic.Bool, err error) error {
	if err == nil || errors.Is(err, io.EOF) && !closed.Load() {
		return err
	}
	if closed.Load() {
		return net.ErrClosed
	}
	return plain(err)
}

// errnos are the stack's words for what the system calls by number.
var errnos = map[string]error{
	(&tcpip.ErrConnectionRefused{}).String():    syscall.ECONNREFUSED,
	(&tcpip.ErrConnectionReset{}).String():      syscall.ECONNRESET,
	(&tcpip.ErrConnectionAborted{}).String():    syscall.ECONNABORTED,
	(&tcpip.ErrClosedForSend{}).String():        syscall.EPIPE,
	(&tcpip.ErrTimeout{}).String():              syscall.ETIMEDOUT,
	(&tcpip.ErrHostUnreachable{}).String():      syscall.EHOSTUNREACH,
	(&tcpip.ErrNetworkUnreachable{}).String():   syscall.ENETUNREACH,
	(&tcpip.ErrPortInUse{}).String():            syscall.EADDRINUSE,
	(&tcpip.ErrMessageTooLong{}).String():       syscall.EMSGSIZE,
	(&tcpip.ErrInvalidEndpointState{}).String(): net.ErrClosed,
	(&tcpip.ErrNoPortAvailable{}).String():      syscall.EADDRNOTAVAIL,
	(&tcpip.ErrBadLocalAddress{}).String():      syscall.EADDRNOTAVAIL,
	(&tcpip.ErrDestinationRequired{}).String():  syscall.EDESTADDRREQ,
	(&tcpip.ErrNotConnected{}).String():         syscall.ENOTCONN,
	(&tcpip.ErrNoBufferSpace{}).String():        syscall.ENOBUFS,
}

// plain replaces the innermost error of the stack by the one package net would
// give, and leaves others alone.
func plain(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	e := *op
	var timeout net.Error
	if errors.As(op.Err, &timeout) && timeout.Timeout() {
		e.Err = os.ErrDeadlineExceeded
	} else if no, ok := errnos[op.Err.Error()]; ok {
		e.Err = no
	}
	return &e
}
