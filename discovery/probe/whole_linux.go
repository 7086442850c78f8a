package probe

import (
	"net"
	"syscall"
)

// forbidCutting makes the kernel send a datagram whole or not at all
// (ip(7), IP_PMTUDISC_PROBE): the size counts against the interface only, not
// against what ICMP or a route has taught of the path. What is no system socket
// is left alone.
func forbidCutting(c net.PacketConn) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_PROBE)
	}); err != nil {
		return err
	}
	return set
}
