package lab

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// newCable is the smallest ground: two hosts and a wire between them, both
// ends in the same kernel, so that nothing but the tunnel's own work counts.
func newCable() (ground, error) {
	g := &namespaces{hosts: map[string]*host{}}
	for _, name := range []string{cableLeft, cableRight} {
		h, err := newHost(name)
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		g.hosts[name] = h
	}
	err := g.hosts[cableLeft].wire("eth0", netip.PrefixFrom(leftUnderlay, 24), g.hosts[cableRight], "eth0", netip.PrefixFrom(rightUnderlay, 24))
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// forceReadBuffer gives a socket more room than the system's limit.
func forceReadBuffer(c *net.UDPConn, size int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = raw.Control(func(fd uintptr) { errno = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) })
	return errors.Join(err, errno)
}
