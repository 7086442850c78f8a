package gossip

import (
	"net/netip"

	"drawbridge/discovery"
)

// Who is called dead and lives must hear of it to say that it lives. memberlist
// tells the dead by chance, and those who left not at all: they would hear of it
// with their next push/pull. So gateways tell them at once. Who is really gone
// does not hear it.

// remind tells a node of its death, of which another told here.
func (g *Gossip) remind(m message, to netip.Addr) {
	if g.opt.Self.Role != discovery.RoleGateway {
		return
	}
	g.mu.Lock()
	t := g.live
	g.mu.Unlock()
	if t == nil {
		return
	}
	if err := t.send(m.bytes(), netip.AddrPortFrom(to, g.opt.Port)); err != nil {
		g.log.Debug("death not told to the node itself", "node", m.Node, "err", err)
	}
}
