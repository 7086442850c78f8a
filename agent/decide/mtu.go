package decide

import (
	"slices"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/mtu"
)

const (
	// sizesFresh: a peer that has not answered a small packet for so long is
	// silent, and sizes are not judged. Less than the three seconds that it takes
	// to find a size lost, more than a server's slowest pulse.
	sizesFresh = 2 * time.Second
	// maxSearches is how many peers may be searched at once: with each packet
	// 1500 bytes and five a second at most, no more than 1 Mbit/s.
	maxSearches = 16
	// holeShown is how long a black hole is a finding.
	holeShown = time.Hour
)

// measure gives every peer of the plan the largest packet that is known to
// reach it, and decides which sizes are tried next. Only paths of our own are
// measured: a relayed destination is the relay's to measure.
func (c *scene) measure() {
	limit := c.deviceMTU()
	c.p.MTU = limit
	if d := c.s.Device; d != nil && d.MTU > 0 {
		limit = min(limit, d.MTU) // what is in force now
	}
	known, searches := c.old.Paths, 0
	for i := range c.old.Paths {
		if p := &c.old.Paths[i]; p.Searching && p.Asked != 0 {
			searches++
		}
	}
	c.m.Paths = make([]PathMemory, 0, len(c.p.Peers))
	c.p.Paths = make([]PathStatus, 0, len(c.p.Peers))
	for i := range c.mates {
		m := &c.mates[i]
		peer := c.peer(tunnel.Key(m.WireGuard))
		if i == c.self || peer == nil {
			continue
		}
		old := PathMemory{Node: m.ID}
		for len(known) > 0 && known[0].Node < m.ID {
			known = known[1:]
		}
		if len(known) > 0 && known[0].Node == m.ID {
			old = known[0]
		}
		now := old
		now.Memory = old.Step(c.now, c.pathFacts(m, limit), old.Asked != 0 || searches < maxSearches)
		if now.Searching && now.Asked != 0 && old.Asked == 0 {
			searches++
		}
		c.m.Paths = append(c.m.Paths, now)
		m.size, peer.MTU = now.Asked, now.MTU(limit)
		c.p.Paths = append(c.p.Paths, PathStatus{
			Node: m.ID, MTU: peer.MTU, Measured: now.Measured(), At: now.Checked,
			Searching: now.Searching && now.Asked != 0, Hole: now.Hole, Was: now.Was,
		})
	}
}

// deviceMTU is the MTU of the own device, as it should be.
func (c *scene) deviceMTU() int {
	return mtu.Device(c.s.Settings.MTU, c.s.Underlay, c.s.Settings.Backend)
}

// peer is the plan's peer with a key; nil: there is none.
func (c *scene) peer(k tunnel.Key) *tunnel.Peer {
	i, ok := slices.BinarySearchFunc(c.p.Peers, k, func(p tunnel.Peer, k tunnel.Key) int { return p.Key.Compare(k) })
	if !ok {
		return nil
	}
	return &c.p.Peers[i]
}

func (c *scene) pathFacts(m *mate, limit int) mtu.Facts {
	f := mtu.Facts{Limit: limit, Fresh: c.within(m.proof, sizesFresh)}
	if m.sight != nil {
		f.Tried, f.Whole, f.Lost = m.sight.Size, m.sight.SizeWhole, m.sight.SizeLost
	}
	if c.s.Device == nil {
		return f
	}
	peers := c.s.Device.Peers
	i, ok := slices.BinarySearchFunc(peers, tunnel.Key(m.WireGuard), func(p tunnel.PeerStatus, k tunnel.Key) int { return p.Key.Compare(k) })
	if ok {
		f.At, f.Sent = peers[i].Endpoint, peers[i].TxBytes
	}
	return f
}

// healthPaths: paths that carry less than the mesh counts on, and those that
// began to swallow what they carried.
func (c *scene) healthPaths() {
	for i := range c.p.Paths {
		p := &c.p.Paths[i]
		m := c.s.member(p.Node)
		if m == nil {
			continue
		}
		subject := name(m.ID, m.Name)
		switch {
		case p.MTU < tunnel.DefaultMTU && p.MTU < c.p.MTU:
			c.report("mtu-low", Warning, subject, "look for a link below 1360 bytes between the two hosts; IPv6 and large UDP packets suffer",
				"packets of more than %d bytes do not reach it, small ones do", p.MTU)
		case !p.Hole.IsZero() && c.within(p.Hole, holeShown):
			c.report("mtu-black-hole", Note, subject, "nothing: packets are kept small enough, larger ones are tried again by themselves",
				"the path began to swallow packets of %d bytes at %s; %d bytes pass", p.Was, clock(p.Hole), p.MTU)
		}
	}
}

// explainPath says how large packets to a node may be, and why.
func explainPath(p *Plan, id discovery.NodeID) (lines []string) {
	s := find(p.Paths, id, func(s *PathStatus) discovery.NodeID { return s.Node })
	if s == nil {
		return nil
	}
	return []string{"  packets to it may have " + s.String()}
}
