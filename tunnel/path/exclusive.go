package path

import (
	"cmp"
	"net/netip"
	"slices"

	"drawbridge/tunnel"
)

// exclusive marks the nodes that may be a peer: usable, and with an address
// and a key that no node with a lower ID has. AllowedIPs are exclusive in a
// WireGuard device, and clones of one identity must not fight over it.
func exclusive(self Self, nodes []Node) []bool {
	ok := make([]bool, len(nodes))
	order := make([]int32, 0, len(nodes))
	for i, n := range nodes {
		ok[i] = n.usable() && n.Addr != self.Addr && n.ID != self.ID
		if ok[i] {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(nodes[a].Addr.Compare(nodes[b].Addr), int(a-b))
	})
	for i := 1; i < len(order); i++ {
		if nodes[order[i]].Addr == nodes[order[i-1]].Addr {
			ok[order[i]] = false
		}
	}
	var last tunnel.Key
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(nodes[a].Key.Compare(nodes[b].Key), int(a-b))
	})
	for _, i := range order {
		if !ok[i] {
			continue
		}
		if nodes[i].Key == last {
			ok[i] = false
		}
		last = nodes[i].Key
	}
	return ok
}

// Endpoint is the address to dial: the first of the record's that does not lie
// inside the mesh, else what is remembered. An endpoint inside the mesh would
// route the tunnel through itself.
func Endpoint(mesh netip.Prefix, record []netip.AddrPort, remembered netip.AddrPort) netip.AddrPort {
	for _, e := range record {
		if e.IsValid() && e.Port() != 0 && !mesh.Contains(e.Addr()) {
			return e
		}
	}
	if remembered.IsValid() && !mesh.Contains(remembered.Addr()) {
		return remembered
	}
	return netip.AddrPort{}
}
