package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Clash reports, wrapping [tunnel.ErrPrefixClash], a route of the host's main
// table that overlaps the mesh prefix, other than the default route and routes
// of the interface own.
func Clash(mesh netip.Prefix, own string) error {
	// The main table only: the local one repeats addresses that have their
	// connected route here anyway, and rules to others are made on purpose.
	found, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	names := map[int]string{}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var routes []route
	for _, r := range found {
		if dst, ok := prefix(r.Dst); ok {
			routes = append(routes, route{dst, name(names, r)})
		}
	}
	return clash(mesh, own, routes)
}

func name(names map[int]string, r netlink.Route) string {
	if n := names[r.LinkIndex]; n != "" {
		return n
	}
	if len(r.MultiPath) > 0 {
		return names[r.MultiPath[0].LinkIndex]
	}
	return "nowhere" // a blackhole or the like
}

// whole repeats a listing that the kernel says was interrupted by a change.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range 10 {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}
