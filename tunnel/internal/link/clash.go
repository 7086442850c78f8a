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

// clash finds the first route that overlaps a prefix that is to be ours, in
// either direction: one inside it would take addresses away from it, one around
// it would lose addresses to it. The own interface and default routes do not
// count; 0.0.0.0/1 and 128.0.0.0/1 are how VPN clients write a default route,
// and 2000::/3 is the whole IPv6 internet.
func clash(wish netip.Prefix, own string, routes []route) error {
	for _, r := range routes {
		if r.iface == own || !r.dst.IsValid() || r.dst.Bits() <= 1 || r.dst.Addr().Is6() && r.dst.Bits() <= 3 || !r.dst.Overlaps(wish) {
			continue
		}
		return fmt.Errorf("%w: %v is routed to %s, the overlay wants %v; choose a prefix that this host does not use",
			tunnel.ErrPrefixClash, r.dst, r.iface, wish)
	}
	return nil
}
