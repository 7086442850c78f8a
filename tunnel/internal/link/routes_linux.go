package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes (rtm_protocol of rtnetlink(7)): `ip route show
// proto 219` lists them. No routing daemon has this number.
const Protocol = 219

// setRoutes makes our routes to l those of the state. A prefix beside the mesh
// that the host routes elsewhere stays there, and is told: the host's own
// network is not to be cut by what another node advertises.
func setRoutes(l netlink.Link, s State) (left []string, err error) {
	found, err := mainRoutes()
	if err != nil {
		return nil, err
	}
	names, err := linkNames()
	if err != nil {
		return nil, err
	}
	index := l.Attrs().Index
	var have []entry
	var others []route
	for _, r := range found {
		dst, ok := prefix(r.Dst)
		switch {
		case !ok:
		case r.LinkIndex != index:
			others = append(others, route{dst, name(names, r)})
		case r.Protocol != unix.RTPROT_KERNEL:
			src, _ := netip.AddrFromSlice(r.Src)
			have = append(have, entry{dst: dst, src: src.Unmap(), mtu: r.MTU, ours: r.Protocol == Protocol})
		}
	}
	s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(p netip.Prefix) bool {
		err := clash(p, s.Name, others)
		if err != nil {
			left = append(left, err.Error())
		}
		return err != nil
	})
	add, change, del := diff(wanted(s), have)
	for _, e := range change {
		if err := netlink.RouteReplace(e.route(index)); err != nil {
			return left, fmt.Errorf("route %v to %s: %w", e.dst, s.Name, err)
		}
	}
	for _, e := range add {
		// Never replace: the route of this destination could be another's.
		err := netlink.RouteAdd(e.route(index))
		if c := clash(e.dst, s.Name, others); errors.Is(err, unix.EEXIST) && c != nil {
			err = c
		}
		if err != nil {
			return left, fmt.Errorf("route %v to %s: %w", e.dst, s.Name, err)
		}
	}
	for _, e := range del {
		if err := netlink.RouteDel(e.route(index)); err != nil && !errors.Is(err, unix.ESRCH) {
			return left, fmt.Errorf("remove route %v from %s: %w", e.dst, s.Name, err)
		}
	}
	return left, nil
}

func (e entry) route(index int) *netlink.Route {
	r := &netlink.Route{LinkIndex: index, Dst: ipNet(e.dst), Src: e.src.AsSlice(), MTU: e.mtu, Protocol: Protocol}
	if e.dst.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

// mainRoutes are the routes of the main table, of both families. Only that
// table: the local one repeats addresses that have their connected route here
// anyway, and rules to others are made on purpose.
func mainRoutes() ([]netlink.Route, error) {
	var out []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if family == netlink.FAMILY_V6 && errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func linkNames() (map[int]string, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}
