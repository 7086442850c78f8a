package api

import (
	"cmp"
	"net/netip"
	"slices"

	"drawbridge/agent/decide"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// membersOf lists every node: self first, then by site and name.
func membersOf(m moment) []Member {
	device := map[tunnel.Key]tunnel.PeerStatus{}
	if m.snap.Device != nil {
		for _, p := range m.snap.Device.Peers {
			device[p.Key] = p
		}
	}
	seen := map[discovery.NodeID]discovery.Observation{}
	for _, o := range m.snap.Sight.Observations {
		seen[o.Node] = o
	}
	paths := pathsOf(m.snap, m.plan, device)
	out := make([]Member, 0, len(m.snap.Members))
	for _, r := range m.snap.Members {
		dev, obs := device[r.WireGuard], seen[r.ID]
		services := r.Services
		if r.ID == m.snap.Self.ID && len(m.snap.Checks) > 0 {
			services = m.snap.Checks
		}
		out = append(out, Member{
			ID: string(r.ID), Name: r.Name, Site: r.Site, Role: string(r.Role), Addr: text(r.Addr),
			State: stateOf(m.snap, r), Path: paths[r.ID],
			HandshakeAge: age(m.now, dev.LastHandshake), RTT: known(obs.RTT), ProofAge: age(m.now, obs.Proof),
			Rx: dev.RxBytes, Tx: dev.TxBytes, Draining: r.Draining, Version: r.Version,
			Services: servicesOf(services),
		})
		if i, ok := slices.BinarySearchFunc(m.plan.Paths, r.ID, byNode); ok {
			p, o := m.plan.Paths[i], &out[len(out)-1]
			o.MTU, o.MTUState, o.BlackHole = p.MTU, p.State(), when(p.Hole)
		}
	}
	self := string(m.snap.Self.ID)
	slices.SortStableFunc(out, func(a, b Member) int {
		return cmp.Or(
			-compareBool(a.ID == self, b.ID == self),
			cmp.Compare(a.Site, b.Site), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID),
		)
	})
	return out
}

func byNode(p decide.PathStatus, id discovery.NodeID) int { return cmp.Compare(p.Node, id) }

// stateOf is the gossip's word, unless the node was set apart.
func stateOf(s *decide.Snapshot, m discovery.Member) string {
	if slices.ContainsFunc(s.Trust.Apart, func(a discovery.Apart) bool { return a.Node == m.ID }) {
		return "quarantined"
	}
	return string(m.State)
}

// pathsOf says how packets reach each node: through its own WireGuard peer, or
// through the peer whose allowed addresses hold it most narrowly.
func pathsOf(s *decide.Snapshot, p *decide.Plan, device map[tunnel.Key]tunnel.PeerStatus) map[discovery.NodeID]string {
	owner := map[tunnel.Key]string{}
	for _, m := range s.Members {
		owner[m.WireGuard] = m.Name
	}
	out := map[discovery.NodeID]string{}
	for _, m := range s.Members {
		out[m.ID] = pathTo(s, p, m, device, owner)
	}
	return out
}

func pathTo(s *decide.Snapshot, p *decide.Plan, m discovery.Member, device map[tunnel.Key]tunnel.PeerStatus, owner map[tunnel.Key]string) string {
	if m.ID == s.Self.ID {
		return "self"
	}
	carrier, wished := decide.Carrier(p.Peers, m.Addr)
	direct, isPeer := device[m.WireGuard]
	switch {
	case wished && carrier != tunnel.Key(m.WireGuard) && owner[carrier] != "":
		return "via " + owner[carrier]
	case isPeer && tunnel.Streamed(direct.Endpoint) && (wished || p.Peers == nil):
		return streamPath(s, m.WireGuard)
	case isPeer && direct.Endpoint.IsValid() && (wished || p.Peers == nil):
		if s.Self.Role == discovery.RoleServer && m.Role == discovery.RoleServer {
			return "neighbour " + direct.Endpoint.String()
		}
		return "direct " + direct.Endpoint.String()
	}
	return "none"
}

func servicesOf(list []discovery.Service) []Service {
	out := make([]Service, 0, len(list))
	for _, s := range list {
		out = append(out, Service{Name: s.Name, Port: s.Port, Check: string(s.Check), Capacity: s.Capacity})
	}
	return out
}

// namesOf gives every node's name, self included.
func namesOf(s *decide.Snapshot) map[discovery.NodeID]string {
	names := map[discovery.NodeID]string{s.Self.ID: s.Self.Name}
	for _, m := range s.Members {
		names[m.ID] = m.Name
	}
	return names
}

// text prints an address; "" for none, where netip would say "invalid IP".
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
