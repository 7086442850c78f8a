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
// be the thing that broke. So does that of a gateway that moved: it may be that
// only another gateway still hears it. And when a gateway is to be a relay again,
// all servers change to it in the same moment, or they would not meet there.

// tellConcerned tells the own record to those who must not wait for its change.
func (g *Gossip) tellConcerned(was, is discovery.Announcement) {
	var to []netip.Addr
	for _, list := range [][2][]netip.Addr{{was.Direct, is.Direct}, {is.Direct, was.Direct}} {
		for _, a := range list[0] {
			if _, both := slices.BinarySearchFunc(list[1], a, netip.Addr.Compare); !both {
				to = append(to, a)
			}
		}
	}
	if len(to) == 0 && slices.Equal(was.Endpoints, is.Endpoints) && was.Young == is.Young {
		return
	}
	others := g.book.addrs(func(e *entry) bool {
		return living(e.state) && (e.id.Role == discovery.RoleGateway || was.Young != is.Young)
	})
	if to = append(to, others...); len(to) > 0 {
		g.tellNow(shout{to: to})
	}
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
