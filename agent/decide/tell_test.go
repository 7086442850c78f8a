package decide

import (
	"fmt"
	"strings"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// tell traces what changed in an agent's mind since its last plan.
func (g *stage) tell(a *actor, before *Plan) {
	var sites, routes, leader, relay, ways, epochs, health string
	if before != nil {
		sites, routes, leader = sitesText(before), routesText(before), string(before.Leader)
		relay, epochs, health = g.relayText(a, before), g.epochText(a, before), healthText(before)
		ways = g.wayText(a, before)
	}
	say := func(old, now string) {
		if old == now {
			return
		}
		olds := strings.Split(old, "\n")
		for _, line := range strings.Split(now, "\n") {
			known := false
			for _, o := range olds {
				known = known || o == line
			}
			if line != "" && !known {
				g.trace("%s: %s", a.Name, line)
			}
		}
	}
	if g.underlay > 0 {
		was := ""
		if before != nil {
			was = g.mtuText(before)
		}
		say(was, g.mtuText(a.plan))
	}
	if a.Role == discovery.RoleGateway {
		if string(a.plan.Leader) != leader {
			who := "nobody"
			for _, n := range g.nodes {
				if n.ID == a.plan.Leader {
					who = n.Name
				}
			}
			g.trace("%s: leader is %s (%s)", a.Name, who, a.plan.LeaderReason)
		}
		say(sites, sitesText(a.plan))
		if a.plan.Cloud != nil && a.plan.Cloud.Write {
			say(routes, routesText(a.plan))
		}
		say(health, healthText(a.plan))
		return
	}
	say(ways, g.wayText(a, a.plan))
	if !g.speaker(a) {
		return
	}
	if len(a.Local) == 0 {
		say(relay, g.relayText(a, a.plan))
	}
	say(epochs, g.epochText(a, a.plan))
	if before != nil {
		g.tellStreams(a, before)
	}
	say(health, healthText(a.plan))
}

// tellStreams traces where gateways are reached.
func (g *stage) tellStreams(a *actor, before *Plan) {
	wish := func(p *Plan, n *actor) (to, at string) {
		for _, s := range p.Streams {
			if s.Key == keyOf(n) {
				to = s.To.String()
			}
		}
		for _, peer := range p.Peers {
			if peer.Key == keyOf(n) && tunnel.Streamed(peer.Endpoint) {
				at = "a stream"
			} else if peer.Key == keyOf(n) {
				at = peer.Endpoint.String()
			}
		}
		return to, at
	}
	for _, n := range g.nodes {
		wasTo, wasAt := wish(before, n)
		to, at := wish(a.plan, n)
		if n.Role != discovery.RoleGateway || len(g.doors) == 0 {
			continue
		}
		switch {
		case to != wasTo && to != "":
			g.trace("%s: tries a stream with %s at %s", a.Name, n.Name, to)
		case to != wasTo:
			g.trace("%s: ends the stream with %s", a.Name, n.Name)
		}
		if at != wasAt && wasAt != "" {
			g.trace("%s: reaches %s at %s", a.Name, n.Name, at)
		}
	}
}

func sitesText(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Sites {
		fmt.Fprintf(&b, "site %s %s (%s)\n", s.Site, s.Verdict, s.Reason)
	}
	return b.String()
}

func routesText(p *Plan) string {
	var b strings.Builder
	for _, r := range p.Routes {
		fmt.Fprintf(&b, "route %s %s:", r.Route, r.State)
		for _, w := range r.Pools {
			if w.Goal < 0 {
				fmt.Fprintf(&b, " %s keep (%s)", w.Pool, w.Reason)
			} else {
				fmt.Fprintf(&b, " %s %d (%s)", w.Pool, w.Goal, w.Reason)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func healthText(p *Plan) string {
	var b strings.Builder
	for _, h := range p.Health {
		if h.Code != "gateway-silent" && h.Code != "aws-unread" && h.Code != "no-alternative" && h.Code != "all-zero" && h.Code != "target-unhealthy" && h.Code != "no-gateway" &&
			h.Code != "mtu-low" && h.Code != "mtu-black-hole" && h.Code != "udp-blocked" && h.Code != "stream-down" {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s\n", h.Severity, h.Code, h.Subject)
	}
	return b.String()
}

// relayText says through which gateway a server reaches other servers.
func (g *stage) relayText(a *actor, p *Plan) string {
	for _, peer := range p.Peers {
		if len(peer.AllowedIPs) < 2 {
			continue
		}
		for _, n := range g.nodes {
			if keyOf(n) == peer.Key {
				return "reaches other servers through " + n.Name
			}
		}
	}
	return ""
}

// mtuText says how large packets to each peer may be. That it is being measured
// is left out.
func (g *stage) mtuText(p *Plan) string {
	var b strings.Builder
	for _, peer := range p.Peers {
		for _, n := range g.nodes {
			if s := find(p.Paths, n.ID, func(s *PathStatus) discovery.NodeID { return s.Node }); s != nil && keyOf(n) == peer.Key {
				fmt.Fprintf(&b, "packets to %s: %d bytes\n", n.Name, peer.MTU)
			}
		}
	}
	return b.String()
}

func (g *stage) epochText(a *actor, p *Plan) string {
	var b strings.Builder
	for _, peer := range p.Peers {
		for _, n := range g.nodes {
			if keyOf(n) == peer.Key && peer.Epoch > 0 && n.Role == discovery.RoleGateway {
				fmt.Fprintf(&b, "forces a handshake with %s (epoch %d)\n", n.Name, peer.Epoch)
			}
		}
	}
	return b.String()
}

// speaker: the first living server of a site speaks for all of them.
func (g *stage) speaker(a *actor) bool {
	for _, n := range g.nodes {
		if n.Site == a.Site && n.Role == a.Role && !n.dead {
			return n == a
		}
	}
	return false
}
