package decide

import (
	"net/netip"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/path"
)

// relayPatience is how long a gateway that does not probe this server may be
// silent before servers reach each other through the next one, in pulses.
const relayPatience = 3

// connect wishes for the WireGuard peers. Without an own record nothing is
// known well enough: keep.
func (c *scene) connect() {
	c.force()
	c.subnets()
	if c.self < 0 {
		return
	}
	me := &c.mates[c.self]
	self := path.Self{
		ID: me.ID, Role: me.Role, Site: me.Site, Addr: me.Addr, Dialable: len(me.Endpoints) > 0,
		Seen: me.Seen, Local: me.Local, Direct: me.Direct,
	}
	nodes := make([]path.Node, 0, len(c.mates))
	mates := make([]int32, 0, len(c.mates)) // parallel to nodes
	remembered, patience := c.s.Endpoints, c.patience()
	for i := range c.mates {
		m := &c.mates[i]
		for len(remembered) > 0 && remembered[0].Node < m.ID {
			remembered = remembered[1:]
		}
		if i == c.self || m.apart {
			continue
		}
		n := path.Node{
			ID: m.ID, Role: m.Role, Site: m.Site, Key: tunnel.Key(m.WireGuard), Addr: m.Addr, Subnets: c.through(i), Draining: m.Draining || m.Young,
			Seen: m.Seen, Local: m.Local, Direct: m.Direct,
		}
		if len(remembered) > 0 && remembered[0].Node == m.ID && !c.s.Settings.Mesh.Contains(remembered[0].Addr.Addr()) {
			// A server dials itself; what is remembered of it lets a restarted
			// gateway speak first instead of waiting for WireGuard's own timers. The
			// wish stays the same while the device learns better addresses.
			n.Endpoint = remembered[0].Addr
		}
		if m.Role == discovery.RoleGateway {
			n.Living = c.within(m.proof, patience)
			if e := c.m.epoch(m.ID); e != nil && e.At.IsValid() {
				n.Endpoint = e.At
			}
			if e := c.m.epoch(m.ID); e != nil && !c.gateway() {
				n.Epoch = e.Epoch
			}
		}
		if m.stream.IsValid() {
			n.Endpoint = m.stream
		}
		nodes, mates = append(nodes, n), append(mates, int32(i))
	}
	c.neighbours(&self, nodes, mates)
	c.p.Peers = path.Peers(self, nodes)
	path.Both(c.s.Settings.Mesh6, c.s.Settings.Mesh, c.p.Peers)
	c.measure()
}

// patience is how long a gateway may be silent and still be a relay.
func (c *scene) patience() time.Duration {
	if p := c.place(c.s.Self.Site); p != nil && !c.chosen(p, c.s.Self.ID, c.quota(p)) {
		return max(relayPatience*idleInterval, c.t.PeerSilent)
	}
	return c.t.PeerSilent
}

// inside are the prefixes that are routed into the mesh: nothing in them is
// dialled.
func (c *scene) inside() []netip.Prefix {
	in := []netip.Prefix{c.s.Settings.Mesh}
	if six := c.s.Settings.Mesh6; six.IsValid() {
		in = append(in, six)
	}
	return in
}
