package decide

import (
	"slices"
	"time"

	"drawbridge/agent/verdict"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

const (
	// idleInterval is the pulse of a server to a gateway that does not probe it.
	idleInterval = time.Second
	// maxEcho is how many nodes of a large site are asked once the probed ones
	// have fallen silent: more chances for proof before the site counts as dark.
	maxEcho = 64
)

// probe wishes for the pulses: gateways probe sites and each other, servers
// answer and keep an eye on their gateways. Servers beyond the probed ones of a
// site are quiet peers: without an answer they would take every gateway for dead.
func (c *scene) probe() {
	w := &discovery.ProbeWish{Peers: make([]discovery.ProbePeer, 0, len(c.gates)+verdict.MaxProbed*len(c.places))}
	for _, i := range c.gates {
		if i != c.self {
			w.Peers = append(w.Peers, c.pulse(i, "", c.gateway()))
		}
	}
	least := 0
	if c.gateway() {
		least = c.probeSites(w)
	} else {
		w.OnDemand, w.IdleInterval = true, idleInterval
		c.pulseNeighbours(w)
		if p := c.place(c.s.Self.Site); p != nil {
			least = len(p.servers)
		}
	}
	pace := c.pace(least)
	w.Interval, w.EchoAfter = pace.Pulse, pace.EchoAfter
	slices.SortFunc(w.Peers, func(a, b discovery.ProbePeer) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	c.p.Probe = w
}

// probeSites adds the servers of every site, and the own views. It returns how
// many nodes the smallest remote site has.
func (c *scene) probeSites(w *discovery.ProbeWish) int {
	least := 0
	for i := range c.places {
		p := &c.places[i]
		group := ""
		if c.remote(p) {
			group = p.name
			if n := len(p.servers); n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		quota := c.quota(p)
		for k, n := range c.rank(p) {
			if m := &c.mates[n]; m.apart || !c.reachable(m) {
				continue
			}
			if k < quota {
				w.Peers = append(w.Peers, c.pulse(int(n), group, false))
				continue
			}
			// The others pulse us, and need our answer to know that we live.
			q := c.pulse(int(n), "", false)
			q.Quiet = true
			w.Peers = append(w.Peers, q)
		}
		if p.status != nil && p.watched() > 0 {
			w.Views = append(w.Views, p.status.Own)
		}
	}
	return least
}

// neverCame is how long a server that was introduced and did not come is probed.
const neverCame = 10 * time.Second

// reachable: there is somewhere to send a pulse to. A server dials in, so until
// it has come its peer has no endpoint, and what is sent to it waits in the
// device's memory.
func (c *scene) reachable(m *mate) bool {
	if c.s.Device == nil || !m.heard.IsZero() || m.State != discovery.StateKnown || c.now.Sub(m.Since) < neverCame {
		return true
	}
	for i := range c.s.Device.Peers {
		if p := &c.s.Device.Peers[i]; p.Key == tunnel.Key(m.WireGuard) {
			return p.Endpoint.IsValid()
		}
	}
	return true
}

func (c *scene) pulse(i int, group string, tell bool) discovery.ProbePeer {
	m := &c.mates[i]
	p := discovery.ProbePeer{Node: m.ID, Addr: m.Addr, Site: m.Site, Group: group, Tell: tell, Size: m.size}
	if c.gateway() && c.s.Device != nil {
		st := c.peerStatus(tunnel.Key(m.WireGuard))
		if st != nil && !st.LastHandshake.IsZero() && !c.s.Settings.Mesh.Contains(st.Endpoint.Addr()) && !tunnel.Streamed(st.Endpoint) {
			p.Seen = st.Endpoint
		}
	}
	return p
}

// quota is how many nodes of a site are probed: more when the usual ones have
// fallen silent.
func (c *scene) quota(p *place) int {
	if c.gateway() && p.status != nil && c.now.Sub(p.status.LastSeen) >= c.pace(len(p.servers)).EchoAfter {
		return maxEcho
	}
	return verdict.MaxProbed
}

// rank orders the servers of a site: the first are probed. By a hash of their own id only, so
// that all gateways pick the same, but those last that gossip calls dead, and
// those before them that were introduced and have not come: a crowd of new
// hosts must not hide the ones that prove the site. Gossip may guide the eye here because it cannot prove anything.
func (c *scene) rank(p *place) []int32 {
	if len(p.servers) <= verdict.MaxProbed {
		return p.servers
	}
	type score struct {
		hash uint64
		i    int32
	}
	all := make([]score, len(p.servers))
	for k, i := range p.servers {
		h := hash(c.mates[i].ID) >> 2
		switch m := &c.mates[i]; {
		case m.State == discovery.StateDead || !c.reachable(m):
			h |= 1 << 63
		case m.State == discovery.StateKnown && m.heard.IsZero():
			h |= 1 << 62
		}
		all[k] = score{h, i}
	}
	slices.SortFunc(all, func(a, b score) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return int(a.i - b.i)
	})
	out := make([]int32, len(all))
	for k := range out {
		out[k] = all[k].i
	}
	return out
}

// hash is 64-bit FNV-1a (draft-eastlake-fnv).
func hash(id discovery.NodeID) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return h
}
