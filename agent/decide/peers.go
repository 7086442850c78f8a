package decide

import (
	"net/netip"

	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/path"
)

// relayPatience is how long a gateway may be silent before servers reach each
// other through the next one.
const relayPatience = 3 // in probe.go's idleInterval

// connect wishes for the WireGuard peers. Without an own record nothing is
// known well enough: keep.
func (c *scene) connect() {
	c.force()
	c.subnets()
	if c.self < 0 {
		return
	}
	me := &c.mates[c.self]
	self := path.Self{ID: me.ID, Role: me.Role, Addr: me.Addr, Dialable: len(me.Endpoints) > 0}
	nodes := make([]path.Node, 0, len(c.mates))
	remembered := c.s.Endpoints
	for i := range c.mates {
		m := &c.mates[i]
		for len(remembered) > 0 && remembered[0].Node < m.ID {
			remembered = remembered[1:]
		}
		if i == c.self || m.apart {
			continue
		}
		n := path.Node{ID: m.ID, Role: m.Role, Key: tunnel.Key(m.WireGuard), Addr: m.Addr, Draining: m.Draining, Subnets: c.through(i)}
		var known netip.AddrPort
		if len(remembered) > 0 && remembered[0].Node == m.ID {
			known = remembered[0].Addr
		}
		n.Endpoint = c.endpoint(m, known)
		if m.stream.IsValid() {
			n.Endpoint = m.stream
		}
		if m.Role == discovery.RoleGateway {
			n.Living = c.within(m.proof, relayPatience*idleInterval)
			if e := c.m.epoch(m.ID); e != nil {
				n.Epoch = e.Epoch
			}
		}
		nodes = append(nodes, n)
	}
	c.p.Peers = path.Peers(self, nodes)
	path.Both(c.s.Settings.Mesh6, c.s.Settings.Mesh, c.p.Peers)
	c.measure()
}

// endpoint: a gateway is dialled where its record says. A server dials itself;
// what is remembered of it lets a restarted gateway speak first instead of
// waiting for WireGuard's own timers. The wish stays the same while the device
// learns better addresses.
func (c *scene) endpoint(m *mate, known netip.AddrPort) netip.AddrPort {
	var record []netip.AddrPort
	if m.Role == discovery.RoleGateway {
		record = m.Endpoints
	}
	return path.Endpoint(c.s.Settings.Mesh, record, known)
}
