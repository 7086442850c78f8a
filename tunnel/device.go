package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Device is a WireGuard device that the agent owns while it runs.
//
// Apply makes the device equal to the wish; it is idempotent, keeps the
// sessions of unchanged peers, and leaves the device as it was when it returns
// an error before touching it. A device may refuse to change Addr, Mesh or MTU
// after the first Apply with [ErrNeedsRestart]. All methods may be called from
// several goroutines; Apply calls exclude each other.
type Device interface {
	Apply(ctx context.Context, c Config) error
	Status(ctx context.Context) (Status, error)
	// Network reaches the overlay from inside the agent. It works from the
	// first successful Apply until Close.
	Network() Network
	// Close takes the device down and removes what it created outside the
	// process. Connections made through its Network end.
	Close() error
}

// Network is how the agent itself dials and listens in the overlay. network is
// "tcp" or "udp" in the sense of package net; the address says the family, or
// "tcp4", "udp6" and so on do, and neither means IPv4. Where the device has an
// interface these are system sockets bound to the overlay address, on netstack
// they are the stack's own.
type Network interface {
	DialContext(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error)
	Listen(network string, addr netip.AddrPort) (net.Listener, error)
	ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error)
}

// Errors that a backend returns, wrapped with the particulars.
var (
	// ErrNoPrivilege: the backend needs a right or a file that this process
	// does not have. Next step: run as root, grant CAP_NET_ADMIN and
	// /dev/net/tun, or choose the netstack backend.
	ErrNoPrivilege = errors.New("not permitted to create the interface")
	// ErrPortTaken: another process listens on the UDP port.
	ErrPortTaken = errors.New("port already in use")
	// ErrPrefixClash: the host already routes (part of) the mesh prefix elsewhere.
	ErrPrefixClash = errors.New("mesh prefix clashes with a route of this host")
	// ErrNeedsRestart: the change cannot be made on a living device.
	ErrNeedsRestart = errors.New("change needs a restart of the agent")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("device closed")
)
