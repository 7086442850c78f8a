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

// Explain tells in plain lines why things are as they are: for a site the
// verdict with its evidence, for a route every weight with its reason, for a
// node (by name, address, or the start of its id) what is known of it. ok is
// false when nothing has this name.
func Explain(p *Plan, s *Snapshot, subject string) (lines []string, ok bool) {
	for i := range p.Sites {
		if p.Sites[i].Site == subject {
			return append(explainSite(&p.Sites[i], s), about(p, subject)...), true
		}
	}
	for i := range p.Routes {
		if p.Routes[i].Route == subject {
			return append(explainRoute(p, s, &p.Routes[i]), about(p, subject)...), true
		}
	}
	if m := member(s, subject); m != nil {
		lines = explainNode(p, s, m)
		return append(lines, about(p, name(m.ID, m.Name))...), true
	}
	if subject != "" && subject == s.Self.Site {
		return []string{fmt.Sprintf("site %s is this node's own: its health is for the load balancer to judge", subject)}, true
	}
	return nil, false
}

func explainSite(st *SiteStatus, s *Snapshot) []string {
	head := fmt.Sprintf("site %s is %s: %s", st.Site, st.Verdict, reasonText(st.Reason))
	if !st.Since.IsZero() {
		head += ", since " + clock(st.Since)
	}
	lines := []string{head}
	seen := "none of them has answered since this agent started"
	if !st.LastSeen.IsZero() {
		seen = "the last answer came at " + clock(st.LastSeen)
	}
	lines = append(lines, fmt.Sprintf("  %d of %d nodes answer this node; %s", st.Proven, st.Nodes, seen))
	if s.Self.Role == discovery.RoleGateway {
		lines = append(lines, fmt.Sprintf("  %s (this node) sees it %s", name(s.Self.ID, s.Self.Name), st.Own.State))
	}
	for _, v := range st.Views {
		lines = append(lines, fmt.Sprintf("  %s told at %s that it sees it %s", label(s, v.Observer), clock(v.Heard), v.State))
	}
	return lines
}

func explainRoute(p *Plan, s *Snapshot, r *RouteStatus) []string {
	head := fmt.Sprintf("route %s: %s", r.Route, r.State)
	if !r.Until.IsZero() {
		head += ", this step ends at " + clock(r.Until)
	}
	lines := []string{head}
	for _, w := range r.Pools {
		lines = append(lines, fmt.Sprintf("  pool %s (%s): %s, normal %d: %s", w.Pool, where(w.Site), weights(&w), w.Normal, reasonText(w.Reason)))
		if w.Registered >= 0 {
			lines = append(lines, fmt.Sprintf("    the load balancer calls %d of %d targets healthy", w.Healthy, w.Registered))
		}
		for i := range p.Sites {
			if s := &p.Sites[i]; s.Site == w.Site && s.Verdict != Up {
				lines = append(lines, fmt.Sprintf("    site %s is %s: %s", s.Site, s.Verdict, reasonText(s.Reason)))
			}
		}
	}
	return append(lines, writer(p, s))
}

func weights(w *PoolStatus) string {
	now := "weight unknown"
	if w.Now >= 0 {
		now = fmt.Sprintf("weight %d", w.Now)
	}
	switch {
	case w.Goal < 0:
		return now + ", kept"
	case w.Goal == w.Now:
		return now + " as wanted"
	}
	return fmt.Sprintf("%s, wanted %d", now, w.Goal)
}

func where(site string) string {
	if site == "" {
		return "outside the mesh"
	}
	return "site " + site
}

func writer(p *Plan, s *Snapshot) string {
	if p.Leader == "" {
		return "  nobody writes to AWS: " + reasonText(p.LeaderReason)
	}
	who := label(s, p.Leader)
	if p.Cloud != nil && p.Cloud.Write {
		who = "this node"
	}
	return fmt.Sprintf("  %s writes to AWS: %s", who, reasonText(p.LeaderReason))
}

func explainNode(p *Plan, s *Snapshot, m *discovery.Member) []string {
	lines := []string{
		fmt.Sprintf("node %s (%s), %s at site %s, address %s", name(m.ID, m.Name), m.ID.Short(), m.Role, m.Site, m.Addr),
		fmt.Sprintf("  gossip says %s since %s", m.State, clock(m.Since)),
	}
	o := find(s.Sight.Observations, m.ID, func(o *discovery.Observation) discovery.NodeID { return o.Node })
	switch {
	case m.ID == s.Self.ID:
		lines = append(lines, "  this is the node that answers")
	case o == nil:
		lines = append(lines, "  this node does not probe it")
	case o.Proof.IsZero():
		lines = append(lines, "  it has not answered this node's probes since the start")
	default:
		lines = append(lines, fmt.Sprintf("  it last answered this node at %s, in %s", clock(o.Proof), o.RTT))
	}
	if way := explainWay(p, s, m); way != "" {
		lines = append(lines, way)
	}
	lines = append(lines, explainPath(p, m.ID)...)
	lines = append(lines, explainStream(s, m)...)
	if m.Draining {
		lines = append(lines, "  it drains: it wants no new work")
	}
	for _, v := range m.Services {
		lines = append(lines, fmt.Sprintf("  service %s on port %d: its own check is %s", v.Name, v.Port, v.Check))
	}
	return append(lines, explainTarget(p, m)...)
}

// explainWay says how packets reach a node, and for servers why so.
func explainWay(p *Plan, s *Snapshot, m *discovery.Member) string {
	if st := streamWith(s, m); m.ID == s.Self.ID || st != nil && st.Up && !st.UDP {
		return "" // explainStream has the word
	}
	by, ok := Carrier(p.Peers, m.Addr)
	if !ok {
		return "  nothing carries packets to it"
	}
	if by == tunnel.Key(m.WireGuard) {
		if m.Role == discovery.RoleServer && s.Self.Role == discovery.RoleServer {
			return "  packets go to it directly: both say that they have a session on their own wire"
		}
		return "  packets go to it directly"
	}
	relay := "another node"
	for i := range s.Members {
		if tunnel.Key(s.Members[i].WireGuard) == by {
			relay = name(s.Members[i].ID, s.Members[i].Name)
		}
	}
	why := "neither is of the same site nor seen behind the same address"
	if has(p.Direct, m.Addr) {
		why = "this node has a session with it of its own, and it does not say the same"
	} else if slices.ContainsFunc(p.Peers, func(q tunnel.Peer) bool { return q.Key == tunnel.Key(m.WireGuard) }) {
		why = "it is near, but no session with it stands yet"
	}
	return fmt.Sprintf("  packets go to it through %s: %s", relay, why)
}

func has(list []netip.Addr, a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(list, a, netip.Addr.Compare)
	return ok
}

// Carrier is the peer that holds addr by the longest prefix.
func Carrier(peers []tunnel.Peer, addr netip.Addr) (key tunnel.Key, ok bool) {
	bits := -1
	for _, p := range peers {
		for _, pre := range p.AllowedIPs {
			if pre.Contains(addr) && pre.Bits() > bits {
				key, bits, ok = p.Key, pre.Bits(), true
			}
		}
	}
	return key, ok
}

// explainTarget says where the node is wished to be registered.
func explainTarget(p *Plan, m *discovery.Member) (lines []string) {
	if p.Cloud == nil {
		return nil
	}
	for _, w := range p.Cloud.Targets {
		for _, t := range w.Targets {
			if t.Addr == m.Addr {
				lines = append(lines, fmt.Sprintf("  belongs into target group %s on port %d: %s", w.Group, t.Port, reasonText(w.Reason)))
			}
		}
	}
	for _, h := range p.Cloud.NextHops {
		if m.ENI != "" && h.ENI == m.ENI {
			lines = append(lines, fmt.Sprintf("  carries the VPC route of table %s: %s", h.Table, reasonText(h.Reason)))
		}
	}
	return lines
}

// about are the health entries of a subject.
func about(p *Plan, subject string) (lines []string) {
	for _, h := range p.Health {
		if h.Subject == subject {
			lines = append(lines, fmt.Sprintf("  %s: %s; %s", h.Severity, h.Text, h.Next))
		}
	}
	return lines
}

func member(s *Snapshot, subject string) *discovery.Member {
	if subject == "" {
		return nil
	}
	var found *discovery.Member
	for i := range s.Members {
		m := &s.Members[i]
		switch {
		case string(m.ID) == subject || m.Name == subject || m.Addr.IsValid() && m.Addr.String() == subject:
			return m
		case len(subject) >= 4 && strings.HasPrefix(string(m.ID), subject):
			found = m
		}
	}
	return found
}

// member by its id; nil: unknown.
func (s *Snapshot) member(id discovery.NodeID) *discovery.Member {
	return find(s.Members, id, func(m *discovery.Member) discovery.NodeID { return m.ID })
}

func label(s *Snapshot, id discovery.NodeID) string {
	if m := s.member(id); m != nil {
		return name(id, m.Name)
	}
	return id.Short()
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.0") }
