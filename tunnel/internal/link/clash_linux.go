package link

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Clash reports, wrapping [tunnel.ErrPrefixClash], a route of the host's main
// table that overlaps one of the prefixes, other than default routes and routes
// of the interface own. Invalid prefixes clash with nothing.
func Clash(own string, prefixes ...netip.Prefix) error {
	found, err := mainRoutes()
	if err != nil {
		return err
	}
	names, err := linkNames()
	if err != nil {
		return err
	}
	var routes []route
	for _, r := range found {
		if dst, ok := prefix(r.Dst); ok {
			routes = append(routes, route{dst, name(names, r)})
		}
	}
	for _, p := range prefixes {
		if err := clash(p, own, routes); err != nil {
			return err
		}
	}
	return nil
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
