package link

import (
	"cmp"
	"net/netip"
	"slices"

	"drawbridge/tunnel"
)

// minMTU6 is the least MTU that IPv6 may see (RFC 8200, section 5).
const minMTU6 = 1280

// entry is a route to the interface.
type entry struct {
	dst  netip.Prefix
	src  netip.Addr // preferred source
	mtu  int        // 0: the interface's
	ours bool       // has our protocol number
}

// wanted are the routes of a state, sorted by destination: the mesh and the
// other prefixes, and inside them the paths that take smaller packets. A path
// outside of them is nobody's wish: a peer that may use any address must not
// get the default route.
func wanted(s State) []entry {
	src := func(p netip.Prefix) netip.Addr {
		if p.Addr().Is4() {
			return s.Addr
		}
		return s.Addr6
	}
	var out []entry
	for _, p := range append([]netip.Prefix{s.Mesh, s.Mesh6}, s.Routes...) {
		if p.IsValid() && src(p).IsValid() {
			out = append(out, entry{dst: p.Masked(), src: src(p), ours: true})
		}
	}
	whole := slices.Clone(out)
	for _, p := range s.Paths {
		mtu := p.MTU
		if !p.Prefix.Addr().Is4() {
			mtu = max(mtu, minMTU6)
		}
		if mtu >= s.MTU || !src(p.Prefix).IsValid() {
			continue
		}
		if i := slices.IndexFunc(out, func(e entry) bool { return e.dst == p.Prefix }); i >= 0 {
			out[i].mtu = mtu
		} else if slices.ContainsFunc(whole, func(e entry) bool { return e.dst.Overlaps(p.Prefix) && e.dst.Bits() < p.Prefix.Bits() }) {
			out = append(out, entry{dst: p.Prefix, src: src(p.Prefix), mtu: mtu, ours: true})
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return tunnel.ComparePrefix(a.dst, b.dst) })
	return slices.CompactFunc(out, func(a, b entry) bool { return a.dst == b.dst })
}

// diff is what turns the routes that the interface has into the wanted ones.
// Routes of the interface that somebody else made are left, unless they stand
// where one of ours belongs.
func diff(want, have []entry) (add, change, del []entry) {
	for _, w := range want {
		i := slices.IndexFunc(have, func(h entry) bool { return h.dst == w.dst })
		switch {
		case i < 0:
			add = append(add, w)
		case have[i] != w:
			change = append(change, w)
		}
	}
	for _, h := range have {
		if h.ours && !slices.ContainsFunc(want, func(w entry) bool { return w.dst == h.dst }) {
			del = append(del, h)
		}
	}
	return add, change, del
}

// PathsOf are the paths of the peers that take smaller packets than the
// device, for [State].
func PathsOf(c *tunnel.Config) []Path {
	var out []Path
	for _, p := range c.Peers {
		if p.MTU == 0 || p.MTU >= c.MTU {
			continue
		}
		for _, a := range p.AllowedIPs {
			out = append(out, Path{a, p.MTU})
		}
	}
	slices.SortFunc(out, func(a, b Path) int {
		return cmp.Or(tunnel.ComparePrefix(a.Prefix, b.Prefix), a.MTU-b.MTU)
	})
	return out
}

// StateOf is the state that a wish gives an interface.
func StateOf(name string, c *tunnel.Config) State {
	return State{
		Name: name, Addr: c.Addr, Mesh: c.Mesh, Addr6: c.Addr6, Mesh6: c.Mesh6,
		Routes: c.Routes, MTU: c.MTU, Paths: PathsOf(c),
	}
}
