package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// routeVia makes this host send prefix to via, replacing what was there.
func routeVia(prefix netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{Gw: via.AsSlice(), Dst: ipNet(prefix)}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s via %s: %w", prefix, via, err)
	}
	return nil
}
