package gossip

import (
	"context"
	"net/netip"
	"slices"

	"drawbridge/discovery"
)

// Two neighbours change the path between them when both say so, and what is
// sent while only one of them knows is lost. So a change of Direct is not left
// to gossip: the new record goes at once to every neighbour that comes or goes,
// and to the gateways, which tell it further should the path to the neighbour
// be the thing that broke.

// tellNeighbours tells the own record to those whom its change concerns.
func (g *Gossip) tellNeighbours(was, is []netip.Addr) {
	var to []netip.Addr
	for _, list := range [][2][]netip.Addr{{was, is}, {is, was}} {
		for _, a := range list[0] {
			if _, both := slices.BinarySearchFunc(list[1], a, netip.Addr.Compare); !both {
				to = append(to, a)
			}
		}
	}
	if len(to) == 0 {
		return
	}
	gateways := g.book.addrs(func(e *entry) bool { return e.id.Role == discovery.RoleGateway && living(e.state) })
	g.tellNow(shout{to: append(to, gateways...)})
}

// shoutRecord sends the own record as it is now. It reports whether to do so again.
func (g *Gossip) shoutRecord(ctx context.Context, t *transport, to []netip.Addr, p *pacer) bool {
	f := frame(g.tag, kindItems)
	for _, it := range g.book.items([]discovery.NodeID{g.opt.Self.ID}, false) {
		f = appendItem(f, it)
	}
	if !g.fits(f) {
		return false // the node's meta tells of it
	}
	packet := append([]byte{msgUser}, f...)
	for _, at := range to {
		if !g.opt.Mesh.Contains(at) {
			continue
		}
		if !p.step(ctx) {
			return false
		}
		if err := t.send(packet, netip.AddrPortFrom(at, g.opt.Port)); err != nil {
			g.log.Debug("own record not told", "peer", at, "err", err)
		}
	}
	return true
}
