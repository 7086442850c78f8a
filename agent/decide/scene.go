package decide

import (
	"net/netip"
	"slices"
	"time"

	"drawbridge/agent/verdict"
	"drawbridge/discovery"
)

// scene is a snapshot made ready for the rules: members joined with what was
// observed of them, and grouped by site. It lives for one decision.
type scene struct {
	now    time.Time
	s      *Snapshot
	t      Timing
	old    Memory
	m      Memory // the new one
	p      *Plan
	mates  []mate   // parallel to Members
	places []place  // sorted by site
	shares []share  // pools whose targets are ours, by group
	owned  [][]had  // parallel to shares: targets registered now
	gates  []int    // gateways that have not left, self included, in order of ID
	behind []behind // networks behind others, in the order of ids
	self   int      // index of the own member; -1 unknown
	direct []int32  // servers with which this one has a session of its own
}

// mate is a member with what this node observed of it.
type mate struct {
	*discovery.Member
	proof time.Time              // newest two-way proof; zero: none
	apart bool                   // in quarantine: evidence of its site, and nothing else
	size  int                    // of packets to be tried on the way to it; 0: none
	sight *discovery.Observation // nil: none
	heard time.Time              // newest sign of life

	stream netip.AddrPort // valid: its datagrams go there, see streams
	jolt   bool           // its peer is to be made anew
}

// place is a site with its nodes.
type place struct {
	name    string
	members []int32     // every node
	all     []int32     // nodes that have not left
	servers []int32     // of these, the servers
	gone    int         // servers that were revoked: lost, like those that left
	seen    time.Time   // newest proof of a server
	proof   time.Time   // newest proof of any node
	byAddr  []int32     // members by address, made when first needed
	status  *SiteStatus // judged sites only
}

func newScene(now time.Time, m Memory, s *Snapshot) *scene {
	c := &scene{now: now, s: s, t: s.Settings.Timing.Defaults(), old: m, m: m.begin(s), self: -1}
	c.p = &Plan{Snapshot: s.Version}
	c.meet()
	c.group()
	c.findShares()
	return c
}

// meet joins members with observations; both are sorted by node.
func (c *scene) meet() {
	c.mates = make([]mate, len(c.s.Members))
	obs, apart := c.s.Sight.Observations, c.s.Trust.Apart
	for i := range c.s.Members {
		m := &c.s.Members[i]
		c.mates[i].Member = m
		for len(obs) > 0 && obs[0].Node < m.ID {
			obs = obs[1:]
		}
		if len(obs) > 0 && obs[0].Node == m.ID {
			c.mates[i].sight = &obs[0]
			c.mates[i].proof = obs[0].Proof
			c.mates[i].heard = later(obs[0].Proof, obs[0].Heard)
		}
		for len(apart) > 0 && apart[0].Node < m.ID {
			apart = apart[1:]
		}
		c.mates[i].apart = len(apart) > 0 && apart[0].Node == m.ID
		if m.ID == c.s.Self.ID {
			c.self = i
		}
		if m.Role == discovery.RoleGateway && m.State != discovery.StateLeft && !c.mates[i].apart {
			c.gates = append(c.gates, i)
		}
	}
}

// group sorts members into sites. Sites that only a route names are there too.
func (c *scene) group() {
	at := make(map[string]int)
	visit := func(site string) *place {
		i, ok := at[site]
		if !ok {
			i = len(c.places)
			at[site] = i
			c.places = append(c.places, place{name: site})
		}
		return &c.places[i]
	}
	for i := range c.mates {
		m := &c.mates[i]
		p := visit(m.Site)
		p.members = append(p.members, int32(i))
		// A server that left is still watched until it is forgotten: that it
		// left is only said, and a site whose last node left must turn dark,
		// not unknown. A gateway that left has given up its vote.
		if m.Role == discovery.RoleGateway && (m.State == discovery.StateLeft || m.apart) {
			continue
		}
		p.all = append(p.all, int32(i))
		p.proof = later(p.proof, m.proof)
		if m.Role != discovery.RoleGateway {
			p.servers = append(p.servers, int32(i))
			p.seen = later(p.seen, m.proof)
		}
	}
	for _, g := range c.s.Trust.Gone {
		if g.Role != discovery.RoleGateway {
			visit(g.Site).gone++
		}
	}
	for _, r := range c.s.Settings.Routes {
		for _, p := range r.Pools {
			if !p.Outside() {
				visit(p.Site)
			}
		}
	}
	slices.SortFunc(c.places, func(a, b place) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
}

// watched is how many servers a site has to answer for, the revoked included.
func (p *place) watched() int { return len(p.servers) + p.gone }

func (c *scene) place(site string) *place {
	return find(c.places, site, func(p *place) string { return p.name })
}

// remote: a site that this node would observe.
func (c *scene) remote(p *place) bool { return p.name != c.s.Self.Site }

func (c *scene) gateway() bool { return c.s.Self.Role == discovery.RoleGateway }

// within: t is set and not older than age.
func (c *scene) within(t time.Time, age time.Duration) bool {
	return !t.IsZero() && c.now.Sub(t) <= age
}

// living: a gateway that gives proof, or this node itself.
func (c *scene) living(i int) bool {
	return i == c.self || c.within(c.mates[i].proof, c.t.PeerSilent)
}

// pace is how a site with k servers is probed, the operator's settings first.
func (c *scene) pace(k int) verdict.Pace {
	p := verdict.PaceFor(min(k, verdict.MaxProbed))
	if d := c.s.Settings.Timing.Pulse; d > 0 {
		p.Pulse = d
	}
	if d := c.s.Settings.Timing.EchoAfter; d > 0 {
		p.EchoAfter = d
	}
	if d := c.s.Settings.Timing.DarkAfter; d > 0 {
		p.DarkAfter = d
	}
	return p
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
