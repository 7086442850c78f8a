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
	for i := range nodes {
		n := &nodes[i]
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

// Endpoints are the addresses at which a gateway can be dialled, in order:
// those of its record, then what was found out since. None lies in a prefix
// that is routed into the mesh: it would route the tunnel through itself.
func Endpoints(inside []netip.Prefix, record, others []netip.AddrPort) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(record)+len(others))
	for _, list := range [][]netip.AddrPort{record, others} {
		for _, e := range list {
			if e.IsValid() && e.Port() != 0 && !within(inside, e.Addr()) && !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}
