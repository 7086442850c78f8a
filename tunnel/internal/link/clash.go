package link

import (
	"fmt"
	"net/netip"

	"drawbridge/tunnel"
)

// route is what a clash can be with.
type route struct {
	dst   netip.Prefix
	iface string
}

// clash finds the first route that overlaps the mesh prefix, in either
// direction: one inside the mesh would take addresses away from it, one around
// it would lose addresses to it. The own interface and default routes do not count;
// 0.0.0.0/1 and 128.0.0.0/1 are how VPN clients write a default route.
func clash(mesh netip.Prefix, own string, routes []route) error {
	for _, r := range routes {
		if r.iface == own || r.dst.Bits() <= 1 || !r.dst.IsValid() || !r.dst.Overlaps(mesh) {
			continue
		}
		return fmt.Errorf("%w: %v is routed to %s, the mesh prefix is %v; choose a mesh prefix that this host does not use",
			tunnel.ErrPrefixClash, r.dst, r.iface, mesh)
	}
	return nil
}
