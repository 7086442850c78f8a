package tunnel

import (
	"net/netip"
	"slices"
)

// Filter is the whole wish for the packet filter around the device. What it
// does not allow is dropped: established traffic, ICMP echo, the control ports
// from the mesh and the service ports from gateways pass, nothing else.
type Filter struct {
	Interface string       // the device's system interface
	Mesh      netip.Prefix // the mesh prefix
	Self      netip.Addr   // own overlay address
	// Gateways are the overlay addresses that may reach Services. Sorted.
	Gateways []netip.Addr
	// Control are the ports (UDP and TCP) open to the whole mesh: gossip,
	// probe, DNS. Sorted.
	Control []uint16
	// Services are the published TCP ports, open to Gateways. Sorted.
	Services []uint16
	// Forward makes this host a gateway: traffic between members is relayed,
	// traffic from the underlay into the mesh is forwarded with its source
	// replaced by Self and its TCP MSS clamped to the device's MTU, and
	// nothing new passes from the mesh to the underlay.
	Forward bool
	MTU     int // of the device, bytes; the MSS clamp is MTU-40
	// Self6 and Mesh6 are the overlay in IPv6; invalid: IPv4 only.
	Self6 netip.Addr
	Mesh6 netip.Prefix
	// Subnets are the own advertised subnets: what comes from Gateways for
	// them is forwarded out of the device with its source replaced, and
	// nothing new comes from them. Sorted.
	Subnets []netip.Prefix
}

// Equal reports whether two wishes are the same.
func (f *Filter) Equal(o *Filter) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.Interface == o.Interface && f.Mesh == o.Mesh && f.Self == o.Self &&
		f.Self6 == o.Self6 && f.Mesh6 == o.Mesh6 && slices.Equal(f.Subnets, o.Subnets) &&
		f.Forward == o.Forward && f.MTU == o.MTU && slices.Equal(f.Gateways, o.Gateways) &&
		slices.Equal(f.Control, o.Control) && slices.Equal(f.Services, o.Services)
}

// Forward hands one overlay TCP port to a local address. The netstack backend
// needs it: there, no system socket can listen on the overlay address.
type Forward struct {
	Port uint16         // on the own overlay address
	To   netip.AddrPort // usually 127.0.0.1 and the same port
}
