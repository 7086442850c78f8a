package tunnel

import "net/netip"

// Host is what else lives in this host's network, as far as it touches the
// overlay: a reading, of which nobody changes anything.
type Host struct {
	// Routes are private IPv4 networks that lead to other interfaces than the
	// overlay's, sorted by prefix; at most 1024, the widest first to be kept.
	Routes []HostRoute
	// Conflicts are what stands in the overlay's way. Sorted.
	Conflicts []Conflict
}

// HostRoute is a network and the interface that it leads to.
type HostRoute struct {
	Prefix    netip.Prefix
	Interface string // "nowhere" for a blackhole and the like
}

// ConflictKind says in what way something is in the way.
type ConflictKind string

// The kinds.
const (
	// ConflictRoute: the host routes (part of) the mesh prefix elsewhere.
	ConflictRoute ConflictKind = "route"
	// ConflictTailscale: a tailscaled on this host drops packets with addresses
	// in 100.64.0.0/10 that did not come from it, and the mesh prefix is there.
	ConflictTailscale ConflictKind = "tailscale"
	// ConflictInput: a firewall of the host drops what members send to this node.
	ConflictInput ConflictKind = "input"
	// ConflictPort: a firewall of the host drops what comes to WireGuard's port,
	// or to that of enrolment.
	ConflictPort ConflictKind = "port"
	// ConflictForward: a firewall of the host drops what this node should forward.
	ConflictForward ConflictKind = "forward"
)

// Conflict is one thing in the way.
type Conflict struct {
	Kind    ConflictKind
	Subject string // the interface, or the chain as "family table chain"
	What    string // the network, or the packets: "udp port 7946", "the underlay into the mesh"
	By      string // the program, where it is known by its marks: docker, ufw, firewalld, tailscale, wireguard; else ""
}
