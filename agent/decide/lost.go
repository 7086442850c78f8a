package decide

import (
	"net/netip"
	"slices"

	"drawbridge/discovery"
)

// rememberLost notes since when the node of a registered target has been gone
// or unknown.
func (c *scene) rememberLost() {
	if !c.gateway() {
		return
	}
	c.owned = make([][]had, len(c.shares))
	for i, s := range c.shares {
		g, p := c.groupReading(s.group), c.place(s.site)
		if g == nil || p == nil {
			continue
		}
		if i > 0 && c.shares[i-1].group == s.group {
			c.owned[i] = c.owned[i-1]
		} else {
			c.owned[i] = c.ours(g)
		}
		for _, h := range c.owned[i] {
			if !c.goneAddr(p, h.Addr) {
				continue
			}
			since := c.now
			if l := c.old.lost(h.Addr); l != nil {
				since = l.Since
			}
			c.m.Lost = append(c.m.Lost, LostMemory{h.Addr, since})
		}
	}
	slices.SortFunc(c.m.Lost, func(a, b LostMemory) int { return a.Addr.Compare(b.Addr) })
	c.m.Lost = slices.CompactFunc(c.m.Lost, func(a, b LostMemory) bool { return a.Addr == b.Addr })
}

// goneAddr: no node of the site with this address is there.
func (c *scene) goneAddr(p *place, a netip.Addr) bool {
	if p.byAddr == nil {
		p.byAddr = slices.Clone(p.members)
		slices.SortFunc(p.byAddr, func(x, y int32) int { return c.mates[x].Addr.Compare(c.mates[y].Addr) })
	}
	i, ok := slices.BinarySearchFunc(p.byAddr, a, func(x int32, a netip.Addr) int { return c.mates[x].Addr.Compare(a) })
	if !ok {
		// Who was revoked is not lost: no patience, out at once.
		return !slices.ContainsFunc(c.s.Trust.Gone, func(g discovery.Gone) bool { return g.Addr == a })
	}
	// Who said goodbye and is silent is not lost: no patience, out at once.
	m := &c.mates[p.byAddr[i]]
	return m.State != discovery.StateLeft && c.gone(m)
}

// gone: gossip holds the node dead or departed, and it gives no proof to the
// contrary.
func (c *scene) gone(m *mate) bool {
	return (m.State == discovery.StateDead || m.State == discovery.StateLeft) && !c.within(m.proof, c.t.PeerSilent)
}
