package conflict

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
)

// Read reads the host. It changes nothing, and blocks for as long as the kernel
// needs to list routes and rules. An error leaves the reading incomplete: what
// is in it holds.
func Read(w Wish) (tunnel.Host, error) {
	var h tunnel.Host
	routes, err := routesOf(w.Interface)
	for _, r := range routes {
		if r.Prefix.Overlaps(w.Mesh) {
			h.Conflicts = append(h.Conflicts, conflictOf(tunnel.ConflictRoute, r.Interface, r.Prefix.String(), r.by))
		}
		if r.Prefix.Addr().IsPrivate() && r.Prefix.Bits() >= 8 {
			h.Routes = append(h.Routes, r.HostRoute)
		}
	}
	h.Routes = bounded(h.Routes)
	if w.Interface != "" {
		found, err2 := firewalls(w)
		h.Conflicts = append(h.Conflicts, found...)
		err = errors.Join(err, err2)
	}
	if c, ok := tailscale(w.Mesh); ok {
		h.Conflicts = append(h.Conflicts, c)
	}
	slices.SortFunc(h.Conflicts, func(a, b tunnel.Conflict) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.What, b.What))
	})
	h.Conflicts = slices.Compact(h.Conflicts)
	return h, err
}

// Mesh reports, wrapping [tunnel.ErrPrefixClash], whether something on this host
// leaves no room for a mesh prefix: before a mesh is made or joined. iface is
// the overlay's interface, of which nothing counts.
func Mesh(mesh netip.Prefix, iface string) error {
	routes, err := routesOf(iface)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Prefix.Overlaps(mesh) {
			return fmt.Errorf("%w: %v is routed to %s%s, the mesh prefix is %v; choose a mesh prefix that this host does not use",
				tunnel.ErrPrefixClash, r.Prefix, r.Interface, inBrackets(r.by), mesh)
		}
	}
	if c, ok := tailscale(mesh); ok {
		return fmt.Errorf("%w: tailscaled (%s) drops all packets with addresses in %v that are not its own, the mesh prefix is %v; choose a mesh prefix outside, such as 10.86.0.0/16",
			tunnel.ErrPrefixClash, c.Subject, carriers, mesh)
	}
	return nil
}

func inBrackets(by string) string {
	if by == "" {
		return ""
	}
	return " (" + by + ")"
}

// found is a route with what made it, if that is known.
type found struct {
	tunnel.HostRoute
	by string
}

// routesOf lists IPv4 routes to other interfaces: those of the main table, and
// those of tables that every packet is sent to before. Default routes are left
// out; 0.0.0.0/1 and 128.0.0.0/1 are how VPN clients write one.
func routesOf(own string) ([]found, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	at := map[int]netlink.Link{}
	for _, l := range links {
		at[l.Attrs().Index] = l
	}
	tables, err := tablesBefore()
	if err != nil {
		return nil, err
	}
	var out []found
	for _, table := range tables {
		list, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes of table %d: %w", table, err)
		}
		for _, r := range list {
			if r.Dst == nil {
				continue
			}
			a, ok := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			f := found{HostRoute: tunnel.HostRoute{Prefix: netip.PrefixFrom(a.Unmap(), bits), Interface: "nowhere"}}
			index := r.LinkIndex
			if index == 0 && len(r.MultiPath) > 0 {
				index = r.MultiPath[0].LinkIndex
			}
			if l := at[index]; l != nil {
				f.Interface, f.by = l.Attrs().Name, maker(l)
			}
			if ok && bits > 1 && (own == "" || f.Interface != own) {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

// maker tells by its marks whose interface it is.
func maker(l netlink.Link) string {
	switch name := l.Attrs().Name; {
	case strings.HasPrefix(name, "tailscale"):
		return "tailscale"
	case l.Type() == "wireguard":
		return "wireguard"
	case name == "docker0" || strings.HasPrefix(name, "br-") && len(name) == 15:
		return "docker"
	}
	return ""
}

// tablesBefore are the routing tables that rules send every packet to, up to the
// main one, except the one of local addresses: those have their connected
// routes in the main table. Rules for some packets only are made on purpose.
func tablesBefore() ([]int, error) {
	rules, err := whole(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routing rules: %w", err)
	}
	slices.SortStableFunc(rules, func(a, b netlink.Rule) int { return a.Priority - b.Priority })
	var out []int
	for _, r := range rules {
		if r.Table == unix.RT_TABLE_MAIN {
			break
		}
		plain := r.Src == nil && r.Dst == nil && r.Mark == 0 && r.IifName == "" && r.OifName == "" && !r.Invert &&
			r.Sport == nil && r.Dport == nil && r.UIDRange == nil && r.IPProto == 0 && r.Tos == 0 && r.SuppressPrefixlen < 0
		if plain && r.Table > 0 && r.Table != unix.RT_TABLE_LOCAL && !slices.Contains(out, r.Table) {
			out = append(out, r.Table)
		}
	}
	return append(out, unix.RT_TABLE_MAIN), nil
}

// bounded sorts routes and keeps the widest.
func bounded(list []tunnel.HostRoute) []tunnel.HostRoute {
	if len(list) > maxRoutes {
		slices.SortStableFunc(list, func(a, b tunnel.HostRoute) int { return a.Prefix.Bits() - b.Prefix.Bits() })
		list = list[:maxRoutes]
	}
	slices.SortFunc(list, func(a, b tunnel.HostRoute) int {
		return cmp.Or(tunnel.ComparePrefix(a.Prefix, b.Prefix), cmp.Compare(a.Interface, b.Interface))
	})
	return slices.Compact(list)
}

// tailscale finds a tailscaled that would drop the mesh's packets: by its
// interface, or by the rules that it leaves while it runs without one.
func tailscale(mesh netip.Prefix) (tunnel.Conflict, bool) {
	if !mesh.Overlaps(carriers) {
		return tunnel.Conflict{}, false
	}
	subject := ""
	if links, err := whole(netlink.LinkList); err == nil {
		for _, l := range links {
			if maker(l) == "tailscale" {
				subject = l.Attrs().Name
			}
		}
	}
	if subject == "" {
		subject = tailscaleChain()
	}
	return conflictOf(tunnel.ConflictTailscale, subject, mesh.String(), "tailscale"), subject != ""
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
