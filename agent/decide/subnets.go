package decide

import (
	"net/netip"
	"slices"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// behind is a network behind a server, as this gateway sees it.
type behind struct {
	prefix netip.Prefix
	node   int    // index of the member that may speak for it
	lost   int    // index of the member that has it instead; -1: it does not lose
	clash  string // what of this host or its VPC is in the way; "": nothing
}

// subnets finds the networks that this gateway leads to. Servers do not: to one
// beside such a network the way there would be through the tunnel, and the
// filter of the server before it lets in nothing but gateways.
//
// Of two nodes with networks that overlap, the one with the lower id has it,
// as with addresses. What this host routes elsewhere stays there, and until
// that is known nothing is led anywhere.
func (c *scene) subnets() {
	if !c.gateway() || c.s.Settings.Interface != "" && c.s.Host == nil {
		return
	}
	for i := range c.mates { // sorted by id
		m := &c.mates[i]
		if i == c.self || m.apart || m.State == discovery.StateLeft {
			continue
		}
		for _, p := range m.Subnets {
			b := behind{prefix: p, node: i, lost: -1, clash: c.taken(p)}
			for _, o := range c.behind {
				if o.lost < 0 && o.node != i && o.prefix.Overlaps(p) {
					b.lost = o.node
					break
				}
			}
			c.behind = append(c.behind, b)
		}
	}
	c.p.Behind = []netip.Prefix{}
	for _, b := range c.behind {
		if b.leads() {
			c.p.Behind = append(c.p.Behind, b.prefix)
		}
	}
	slices.SortFunc(c.p.Behind, tunnel.ComparePrefix)
}

// leads: packets for the network go to its node.
func (b behind) leads() bool { return b.lost < 0 && b.clash == "" }

// through are the networks that this gateway reaches by a member.
func (c *scene) through(node int) []netip.Prefix {
	var out []netip.Prefix
	for _, b := range c.behind {
		if b.node == node && b.leads() {
			out = append(out, b.prefix)
		}
	}
	return out
}

// taken says what is in a network's place here; "": nothing.
func (c *scene) taken(p netip.Prefix) string {
	if p.Overlaps(c.s.Settings.Mesh) {
		return "the mesh prefix " + c.s.Settings.Mesh.String()
	}
	if c.s.Host != nil {
		for _, r := range c.s.Host.Routes {
			if r.Prefix.Overlaps(p) {
				return r.Prefix.String() + ", which this host routes to " + r.Interface
			}
		}
	}
	for _, h := range c.s.Cloud.NextHops {
		for _, l := range h.Local {
			if l.Overlaps(p) {
				return l.String() + " of the VPC (" + h.Table + ")"
			}
		}
	}
	return ""
}

// advertised are the networks behind this server that it forwards to: what its
// configuration says, as far as its certificate has it.
func (c *scene) advertised() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range c.s.Settings.Advertise {
		if !c.gateway() && certified(c.s.Self.Subnets, p) {
			out = append(out, p)
		}
	}
	return out
}

// certified: one of the networks holds all of p.
func certified(list []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(list, func(s netip.Prefix) bool { return s.Bits() <= p.Bits() && s.Contains(p.Addr()) })
}
