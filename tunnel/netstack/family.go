package netstack

import (
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"drawbridge/tunnel"
)

// What differs between IPv4 and IPv6 on the stack.

// family is the protocol of a packet; false for one that is neither.
func family(b []byte) (tcpip.NetworkProtocolNumber, bool) {
	if len(b) == 0 {
		return 0, false
	}
	switch b[0] >> 4 {
	case 4:
		return header.IPv4ProtocolNumber, true
	case 6:
		return header.IPv6ProtocolNumber, true
	}
	return 0, false
}

func protocolOf(a tcpip.FullAddress) tcpip.NetworkProtocolNumber {
	if a.Addr.Len() == header.IPv4AddressSize {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.Unmap().AsSlice()) }

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: address(a.Addr()), Port: a.Port()}
}

// route gives the stack its routes: the mesh and what lies behind peers. There
// is no default route, so it can reach nothing else.
func (t *netTUN) route(c *tunnel.Config) {
	var table []tcpip.Route
	for _, p := range slices.Concat([]netip.Prefix{c.Mesh, c.Mesh6}, c.Routes) {
		if p.IsValid() {
			dst := tcpip.AddressWithPrefix{Address: address(p.Addr()), PrefixLen: p.Bits()}.Subnet()
			table = append(table, tcpip.Route{Destination: dst, NIC: nicID})
		}
	}
	t.stack.SetRouteTable(table)
}
