package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

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

// newChain is a client, a gateway and a server in a row, where the gateway
// forwards. The client knows the way to both things behind it.
func newChain() (ground, error) {
	g := &namespaces{hosts: map[string]*host{}}
	for _, name := range []string{chainClient, chainGateway, chainServer} {
		h, err := newHost(name)
		if err != nil {
			return nil, errors.Join(err, g.close())
		}
		g.hosts[name] = h
	}
	client, gw, server := g.hosts[chainClient], g.hosts[chainGateway], g.hosts[chainServer]
	for _, step := range []func() error{
		gw.forwarding,
		func() error {
			return client.wire("eth0", netip.PrefixFrom(chainVPC2, 24), gw, "eth0", netip.PrefixFrom(chainVPC, 24))
		},
		func() error { return gw.wire("eth1", chainDirect, server, "eth0", chainDirect2) },
		func() error {
			return gw.wire("eth2", netip.PrefixFrom(leftUnderlay, 24), server, "eth1", netip.PrefixFrom(rightUnderlay, 24))
		},
		func() error { return client.route(chainDirect.Masked(), chainVPC) },
		func() error { return client.route(bareGateway.Masked(), chainVPC) },
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, g.close())
		}
	}
	return g, nil
}

// congestion sets how a socket's TCP shares the path.
func congestion(algorithm string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var errno error
		err := c.Control(func(fd uintptr) {
			errno = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, algorithm)
		})
		if err = errors.Join(err, errno); err != nil {
			return fmt.Errorf("choose congestion control %s: %w", algorithm, err)
		}
		return nil
	}
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
