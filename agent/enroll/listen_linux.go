package enroll

import (
	"net"
	"syscall"
)

// tuneListener has the kernel hold back connections that say nothing for
// their first second, and gives those that come a small receive buffer: a
// question is short. Whatever of it is not to be had is not needed.
func tuneListener(ln net.Listener) {
	t, ok := ln.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, 1)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
	})
}
