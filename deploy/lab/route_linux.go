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

// addressLink gives a link of this host an address, with the route that comes
// with it, and brings it up.
func addressLink(link string, addr netip.Prefix) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find %s: %w", link, err)
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("address %s on %s: %w", addr, link, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up %s: %w", link, err)
	}
	return nil
}
