package decide

import (
	"time"

	"drawbridge/agent/verdict"
	"drawbridge/discovery"
)

// nextHops wishes for one living gateway behind every VPC route table. A route
// stays with its gateway while that lives: it is not wished for at all, so that
// no hand sets an old opinion back. It moves only when something tells that it
// is the gateway which is gone, and not us.
func (c *scene) nextHops(wish *discovery.CloudWish) {
	if !c.m.Settled {
		return
	}
	for _, table := range c.s.Settings.Tables {
		r := c.hopReading(table)
		if r == nil || r.Read.IsZero() {
			continue
		}
		g, why := c.hop(r)
		if why == discovery.ReasonGatewayDead && c.contested(r) {
			continue
		}
		if why != discovery.ReasonGatewayDead {
			c.moved(r)
		}
		if g >= 0 && c.mates[g].ENI != r.ENI {
			wish.NextHops = append(wish.NextHops, discovery.NextHopWish{
				Table: table, Prefix: c.s.Settings.Mesh.Masked(), ENI: c.mates[g].ENI, Reason: why,
			})
		}
	}
}

// truce is how long a route is left with a silent gateway to which somebody
// has moved it back.
const truce = 5 * time.Minute

// contested reports whether the route came back to the silent gateway that it
// was moved away from: two gateways that cannot hear each other would take it
// from each other for ever.
func (c *scene) contested(r *discovery.NextHop) bool {
	m := HopMemory{Table: r.Table, From: r.ENI}
	if o := c.old.hop(r.Table); o != nil && o.From == r.ENI {
		m = *o
	}
	if m.Moved && m.Back.IsZero() {
		m.Back = c.now
	}
	if !m.Back.IsZero() && c.now.Sub(m.Back) >= truce {
		m.Moved, m.Back = false, time.Time{}
	}
	c.m.Hops = append(c.m.Hops, m)
	return !m.Back.IsZero()
}

// moved remembers routes that have left a silent gateway, until it is heard.
func (c *scene) moved(r *discovery.NextHop) {
	o := c.old.hop(r.Table)
	if o == nil || !c.leads() || o.From == r.ENI {
		return
	}
	for _, i := range c.gates {
		if c.mates[i].ENI == o.From && c.living(i) {
			return
		}
	}
	m := *o
	m.Moved = true
	c.m.Hops = append(c.m.Hops, m)
}

// hop is the gateway for a route, -1 to keep what is there.
func (c *scene) hop(r *discovery.NextHop) (int, discovery.Reason) {
	next := c.nextGateway()
	if r.ENI == "" {
		return next, discovery.ReasonRouteMissing
	}
	now := -1
	for _, i := range c.gates {
		if c.mates[i].ENI == r.ENI {
			now = i
		}
	}
	switch {
	case now >= 0 && c.living(now) && (!c.mates[now].Draining || next < 0 || c.mates[next].Draining):
		return now, discovery.ReasonGatewayAlive
	case now >= 0 && c.living(now):
		return next, discovery.ReasonDraining
	case c.connected(now):
		return next, discovery.ReasonGatewayDead
	}
	return -1, ""
}

// nextGateway is the lowest living gateway with an interface, one that stays
// before one that drains; -1 without any.
func (c *scene) nextGateway() int {
	draining := -1
	for _, i := range c.gates {
		switch {
		case c.mates[i].ENI == "" || !c.living(i):
		case !c.mates[i].Draining:
			return i
		case draining < 0:
			draining = i
		}
	}
	return draining
}

// connected reports whether somebody else answers us, or, when the gateway has
// been silent for longer, the cloud does. gate is -1 for a gateway that nobody
// knows.
func (c *scene) connected(gate int) bool {
	if c.within(c.witness(""), c.t.PeerSilent) {
		return true
	}
	heard := time.Time{}
	if gate >= 0 {
		heard = c.mates[gate].heard
	}
	heard = later(heard, c.s.Sight.Started)
	return !c.within(heard, verdict.CloudAfter) && c.within(c.cloudWitness(""), verdict.CloudFresh)
}
