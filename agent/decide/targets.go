package decide

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"drawbridge/discovery"
)

// share is one pool's part in a target group.
type share struct {
	group, site, service string
}

// findShares lists the pools whose targets are ours, by group; pools that several
// routes have in common count once.
func (c *scene) findShares() {
	var list []share
	for _, r := range c.s.Settings.Routes {
		for _, p := range r.Pools {
			if !p.Outside() {
				list = append(list, share{p.TargetGroup, p.Site, p.Service})
			}
		}
	}
	slices.SortFunc(list, func(a, b share) int {
		return cmp.Or(strings.Compare(a.group, b.group), strings.Compare(a.site, b.site), strings.Compare(a.service, b.service))
	})
	c.shares = slices.Compact(list)
}

// targets wishes for the members of every target group of ours whose site is
// up. While a site is dark or undecided nothing is deregistered: an empty
// group answers 503, a dark one at weight 0 is asked nothing.
func (c *scene) targets(wish *discovery.CloudWish) {
	if !c.s.Settled || !c.m.Settled {
		return
	}
	for i := 0; i < len(c.shares); {
		n := i + 1
		for n < len(c.shares) && c.shares[n].group == c.shares[i].group {
			n++
		}
		if w := c.groupWish(c.shares[i:n], c.owned[i]); w != nil {
			wish.Targets = append(wish.Targets, *w)
		}
		i = n
	}
}

// groupWish is the wish for one group; nil keeps it.
func (c *scene) groupWish(shares []share, have []had) *discovery.TargetWish {
	reading := c.groupReading(shares[0].group)
	if reading == nil || reading.Read.IsZero() {
		return nil
	}
	want := make([]discovery.TargetRef, 0, len(have)+1)
	for _, s := range shares {
		if !c.siteUp(s.site) {
			return nil
		}
		want = c.serving(want, s, have)
	}
	w := &discovery.TargetWish{Group: shares[0].group, Owned: c.s.Settings.Mesh, Reason: discovery.ReasonServing}
	for _, h := range have {
		if l := c.m.lost(h.Addr); l != nil && !slices.Contains(want, h.TargetRef) {
			if c.now.Sub(l.Since) < c.t.TargetLost {
				want = append(want, h.TargetRef)
			} else {
				w.Reason = discovery.ReasonLost
			}
		}
	}
	if last, ok := lastOne(want, have); ok {
		want = append(want, last)
		w.Reason = discovery.ReasonLastTarget
	}
	slices.SortFunc(want, compareRefs)
	w.Targets = slices.Compact(want)
	return w
}

// had is a target of ours that is registered now.
type had struct {
	discovery.TargetRef
	healthy bool
}

// ours are the registered targets inside the mesh prefix, sorted. Those that
// drain after their removal are no longer registered.
func (c *scene) ours(g *discovery.TargetGroup) []had {
	out := make([]had, 0, len(g.Targets))
	for i := range g.Targets {
		t := &g.Targets[i]
		a, err := netip.ParseAddr(t.ID)
		if err != nil || !c.s.Settings.Mesh.Contains(a) || t.State == discovery.TargetDraining {
			continue
		}
		out = append(out, had{discovery.TargetRef{Addr: a, Port: t.Port}, t.State == discovery.TargetHealthy})
	}
	slices.SortFunc(out, func(a, b had) int { return compareRefs(a.TargetRef, b.TargetRef) })
	return out
}

// serving adds the nodes of a site that pass their own check. What is not
// known of a node neither adds nor removes it.
func (c *scene) serving(want []discovery.TargetRef, s share, have []had) []discovery.TargetRef {
	p := c.place(s.site)
	if p == nil {
		return want
	}
	for _, i := range p.all {
		m := &c.mates[i]
		svc := service(m.Services, s.service)
		if svc == nil || m.Draining || m.apart || svc.Check == discovery.CheckFailing || c.gone(m) {
			continue
		}
		ref := discovery.TargetRef{Addr: m.Addr, Port: svc.Port}
		sure := svc.Check == discovery.CheckPassing && (m.State != discovery.StateKnown || c.within(m.proof, c.t.TargetLost))
		if sure || isRegistered(have, ref) {
			want = append(want, ref)
		}
	}
	return want
}

// lastOne is the target that must stay because without it the group would have
// no healthy member, or none at all.
func lastOne(want []discovery.TargetRef, have []had) (discovery.TargetRef, bool) {
	var last *had
	for k := range have {
		h := &have[k]
		kept := slices.Contains(want, h.TargetRef)
		if kept && h.healthy {
			return discovery.TargetRef{}, false
		}
		if h.healthy && (last == nil || !last.healthy) || last == nil {
			last = h
		}
	}
	if last == nil || !last.healthy && len(want) > 0 {
		return discovery.TargetRef{}, false
	}
	return last.TargetRef, true
}

func (c *scene) siteUp(site string) bool {
	if site == c.s.Self.Site {
		return true
	}
	p := c.place(site)
	return p != nil && p.status != nil && p.status.Verdict == Up
}

func service(list []discovery.Service, name string) *discovery.Service {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func isRegistered(have []had, ref discovery.TargetRef) bool {
	return slices.ContainsFunc(have, func(h had) bool { return h.TargetRef == ref })
}

func compareRefs(a, b discovery.TargetRef) int {
	return cmp.Or(a.Addr.Compare(b.Addr), int(a.Port)-int(b.Port))
}
