package decide

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// lan is what lies between servers beside the gateways: wires that carry
// WireGuard's datagrams, and the sessions that came to be on them.
type lan struct {
	cut      map[[2]string]bool // by names, in order
	sessions map[[2]string]session
}

// session is between two servers that are peers of each other. A new epoch at
// either end makes a new one.
type session struct {
	at     time.Time
	epochs [2]uint64
}

func newLAN() lan { return lan{cut: map[[2]string]bool{}, sessions: map[[2]string]session{}} }

func pairOf(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// wired: datagrams pass between two servers.
func (g *stage) wired(a, b *actor) bool {
	return !a.dead && !b.dead && !a.paused && !b.paused && !g.lan.cut[pairOf(a.Name, b.Name)]
}

// peerOf is the peer that a has made of b; nil: none.
func peerOf(a, b *actor) *tunnel.Peer {
	if a.plan == nil {
		return nil
	}
	i := slices.IndexFunc(a.plan.Peers, func(p tunnel.Peer) bool { return p.Key == keyOf(b) })
	if i < 0 {
		return nil
	}
	return &a.plan.Peers[i]
}

// shakeHands makes sessions between servers of which one dials the other.
func (g *stage) shakeHands() {
	for i, a := range g.nodes {
		for _, b := range g.nodes[i+1:] {
			pa, pb := peerOf(a, b), peerOf(b, a)
			if a.Role != discovery.RoleServer || b.Role != discovery.RoleServer || pa == nil || pb == nil {
				continue
			}
			key := pairOf(a.Name, b.Name)
			s, had := g.lan.sessions[key]
			if dead := [2]uint64{pa.Epoch, pb.Epoch}; had && s.epochs != dead {
				delete(g.lan.sessions, key)
				had = false
			}
			dials := slices.Contains(b.Local, pa.Endpoint) && pa.Keepalive > 0 || slices.Contains(a.Local, pb.Endpoint) && pb.Keepalive > 0
			if !g.wired(a, b) || !dials || had && g.now.Sub(s.at) < 2*time.Minute {
				continue
			}
			g.lan.sessions[key] = session{at: g.now, epochs: [2]uint64{pa.Epoch, pb.Epoch}}
		}
	}
}

// device is the device of a server that says where it is; nil for others.
func (g *stage) device(a *actor) *tunnel.Status {
	if len(a.Local) == 0 {
		return nil
	}
	st := &tunnel.Status{ListenPort: a.Local[0].Port()}
	for _, b := range g.nodes {
		p := peerOf(a, b)
		if p == nil {
			continue
		}
		ps := tunnel.PeerStatus{Key: p.Key, Endpoint: p.Endpoint}
		if s, ok := g.lan.sessions[pairOf(a.Name, b.Name)]; ok && b.Role == discovery.RoleServer {
			ps.LastHandshake, ps.Endpoint = s.at, b.Local[0]
		}
		st.Peers = append(st.Peers, ps)
	}
	slices.SortFunc(st.Peers, func(x, y tunnel.PeerStatus) int { return x.Key.Compare(y.Key) })
	return st
}

// pulsed: the pulses of two servers that wish for it reach each other.
func (g *stage) pulsed(a, b *actor) bool {
	if a.plan == nil || b.plan == nil || !wants(a, b) || !wants(b, a) {
		return false
	}
	ca, cb := carrier(g, a, b), carrier(g, b, a)
	switch {
	case ca == nil || cb == nil:
		return false
	case ca == b && cb == a:
		_, had := g.lan.sessions[pairOf(a.Name, b.Name)]
		return had && g.wired(a, b)
	case ca == cb:
		return g.reach(a, ca) && g.reach(ca, b)
	}
	return false
}

func wants(a, b *actor) bool {
	return a.plan.Probe != nil && slices.ContainsFunc(a.plan.Probe.Peers, func(p discovery.ProbePeer) bool { return p.Node == b.ID })
}

// carrier is the node through whose peer a sends to b; nil: nobody.
func carrier(g *stage, a, b *actor) *actor {
	for _, p := range a.plan.Peers {
		if !slices.Contains(p.AllowedIPs, netip.PrefixFrom(b.Addr, 32)) {
			continue
		}
		for _, n := range g.nodes {
			if keyOf(n) == p.Key {
				return n
			}
		}
	}
	return nil
}

// wayText says how a server that knows where it is reaches the others.
func (g *stage) wayText(a *actor, p *Plan) string {
	var b strings.Builder
	for _, n := range g.nodes {
		if n == a || n.Role != discovery.RoleServer || len(a.Local) == 0 {
			continue
		}
		was := a.plan
		a.plan = p
		c := carrier(g, a, n)
		a.plan = was
		switch c {
		case nil:
		case n:
			fmt.Fprintf(&b, "reaches %s directly\n", n.Name)
		default:
			fmt.Fprintf(&b, "reaches %s through %s\n", n.Name, c.Name)
		}
	}
	return b.String()
}

// dials lists where a node dials its gateways.
func (g *stage) dials(a *actor) string {
	var b strings.Builder
	for _, n := range g.nodes {
		if p := peerOf(a, n); p != nil && n.Role == discovery.RoleGateway {
			fmt.Fprintf(&b, "%s at %s\n", n.Name, p.Endpoint)
		}
	}
	return b.String()
}
