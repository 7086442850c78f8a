package stream

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"drawbridge/tunnel"
)

// tunnelSide is the own end towards the device: an address that nothing else
// uses, so that it tells itself.
var tunnelSide = tunnel.StreamNet.Addr().Next()

// Socket options that package syscall does not name (linux/tcp.h, asm/socket.h).
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
	soMeminfo       = 55
	meminfoDrops    = 8 // index in what soMeminfo gives
	meminfoVars     = 9
)

// unsent bounds what waits in the kernel beyond what is under way: datagrams
// that have to wait longer are better dropped.
const unsent = 64 << 10

// tune makes a TCP connection quick and honest.
func tune(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = t.SetNoDelay(true)
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(silentAfter/time.Millisecond))
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent)
	})
}

// drops counts the datagrams that did not fit the socket's buffer.
func (l *leg) drops() (n uint32) {
	_ = l.raw.Control(func(fd uintptr) {
		var vars [meminfoVars]uint32
		size := uint32(unsafe.Sizeof(vars))
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, soMeminfo,
			uintptr(unsafe.Pointer(&vars)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && size == uint32(unsafe.Sizeof(vars)) {
			n = vars[meminfoDrops]
		}
	})
	return n
}
