package path

import (
	"net/netip"

	"drawbridge/tunnel"
)

// Both gives peers the IPv6 overlay address beside every single IPv4 one of the
// mesh: a certificate binds one, and so the other (see [tunnel.Addr6]). An
// invalid mesh6 changes nothing. The peers are changed, their slices are not.
func Both(mesh6 netip.Prefix, mesh netip.Prefix, peers []tunnel.Peer) {
	if !mesh6.IsValid() {
		return
	}
	n := 0
	for i := range peers {
		n += len(peers[i].AllowedIPs)
	}
	all := make([]netip.Prefix, 0, 2*n)
	for i := range peers {
		began := len(all)
		all = append(all, peers[i].AllowedIPs...)
		for _, a := range peers[i].AllowedIPs {
			if a.IsSingleIP() && mesh.Contains(a.Addr()) {
				all = append(all, netip.PrefixFrom(tunnel.Addr6(mesh6, a.Addr()), 128))
			}
		}
		// IPv6 sorts behind IPv4, and among itself as the IPv4 it carries.
		peers[i].AllowedIPs = all[began:len(all):len(all)]
	}
}
