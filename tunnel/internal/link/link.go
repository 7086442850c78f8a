package link

import "net/netip"

// State is the wish for an interface.
type State struct {
	Name string       // an existing interface
	Addr netip.Addr   // its only IPv4 address, with a /32
	Mesh netip.Prefix // routed to it
	// Addr6 is its only IPv6 address, with a /128, and Mesh6 routed to it.
	// Invalid: the interface has no IPv6.
	Addr6  netip.Addr
	Mesh6  netip.Prefix
	Routes []netip.Prefix // further prefixes routed to it
	MTU    int            // bytes
	Paths  []Path         // sorted by prefix
}

// Path is a part of what is routed to the interface that takes smaller
// packets than the interface.
type Path struct {
	Prefix netip.Prefix
	MTU    int // bytes
}

// Outcome is what [Set] had to leave out, in words for a log; "" is nothing.
type Outcome struct {
	NoIPv6 string   // why the interface has no IPv6 although the wish has
	Left   []string // routes that this host has elsewhere, with the reason
}

// Kind is what stands under an interface name.
type Kind string

// The kinds. Only a TUN and an own WireGuard interface are ever touched.
const (
	None      Kind = ""
	TUN       Kind = "tun"
	HeldTUN   Kind = "held tun" // a process has it
	WireGuard Kind = "wireguard"
	Foreign   Kind = "foreign"
)

// Alias marks a WireGuard interface as ours (`ip link` shows it). A TUN needs
// no mark: it goes with its process, or nobody holds it.
const Alias = "drawbridge"
