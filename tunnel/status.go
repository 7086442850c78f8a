package tunnel

import (
	"net/netip"
	"time"
)

// Backend names an implementation of [Device].
type Backend string

// The backends. Auto is a wish only: the best that works is chosen, and the
// status says which and why.
const (
	Auto      Backend = "auto"
	Kernel    Backend = "kernel"   // the kernel's own WireGuard
	Userspace Backend = "tun"      // wireguard-go on a TUN device
	Netstack  Backend = "netstack" // wireguard-go on a stack of our own
	Memory    Backend = "memory"   // the fake of tunnel/tunneltest
)

// Status is what a device reports of itself. Peers are sorted by key.
type Status struct {
	Backend    Backend
	Interface  string // "" where the system has none (netstack)
	ListenPort uint16
	MTU        int
	// Offload says whether the UDP socket sends and receives bursts in one
	// system call (UDP_SEGMENT, UDP_GRO): "on", or why not; "" where that is the
	// kernel's own matter. Without it throughput is less than half.
	Offload string
	Peers   []PeerStatus
}

// PeerStatus is what the device knows of one peer.
type PeerStatus struct {
	Key           Key
	Endpoint      netip.AddrPort // last heard from, or configured; may be zero
	LastHandshake time.Time      // zero: never
	RxBytes       uint64
	TxBytes       uint64
}
