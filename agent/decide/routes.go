package decide

import (
	"slices"
	"strings"

	"drawbridge/agent/weight"
	"drawbridge/discovery"
)

// weights asks the weight rule for every route and turns the answers into
// splits. A route of which nothing may be said has no split: keep.
func (c *scene) weights(wish *discovery.CloudWish) {
	routes := c.s.Settings.Routes
	c.p.Routes = make([]RouteStatus, 0, len(routes))
	c.m.Routes = make([]RouteMemory, 0, len(routes))
	for i := range routes {
		r := &routes[i]
		mem := RouteMemory{Route: r.Name}
		if o := c.old.route(r.Name); o != nil {
			mem = *o
			if c.m.restarted(c.old) {
				mem.Memory = mem.Restarted()
			}
		}
		in := c.found(r)
		if !c.m.Settled {
			c.m.Routes = append(c.m.Routes, mem)
			c.p.Routes = append(c.p.Routes, routeStatus(r, &in, unsettled(len(r.Pools))))
			continue
		}
		next, answer := weight.Next(c.now, mem.Memory, in)
		c.m.Routes = append(c.m.Routes, RouteMemory{Route: r.Name, Memory: next})
		c.p.Routes = append(c.p.Routes, routeStatus(r, &in, answer))
		if answer.State != weight.Keep {
			wish.Splits = append(wish.Splits, split(r, answer))
		}
	}
	slices.SortFunc(wish.Splits, func(a, b discovery.SplitWish) int { return strings.Compare(a.Rule, b.Rule) })
}

// found is the route as the facts have it.
func (c *scene) found(r *discovery.Route) weight.Route {
	in := weight.Route{
		HoldDown: r.HoldDown, HoldMax: r.HoldMax, Ramp: r.Ramp, RampStep: r.RampStep,
		Stickiness: r.Stickiness, Writer: c.leads(), Pools: make([]weight.Pool, len(r.Pools)),
	}
	reading := c.splitReading(r.Rule)
	if reading != nil {
		in.Read = reading.Read
	}
	for i, p := range r.Pools {
		w := weight.Pool{Name: p.Name, Outside: p.Outside(), Light: c.light(p), Normal: p.Weight, Now: -1, Healthy: -1, Registered: -1}
		if reading != nil && !reading.Read.IsZero() {
			for _, g := range reading.Weights {
				if g.Group == p.TargetGroup {
					w.Now = g.Weight
				}
			}
		}
		if g := c.groupReading(p.TargetGroup); g != nil && !g.Read.IsZero() {
			w.Healthy, w.Registered, w.Read = g.Healthy(), registered(g), g.Read
		}
		in.Pools[i] = w
	}
	return in
}

// registered counts the targets that are meant to serve: those that drain
// after their removal do not count.
func registered(g *discovery.TargetGroup) int {
	n := 0
	for _, t := range g.Targets {
		if t.State != discovery.TargetDraining {
			n++
		}
	}
	return n
}

// light is what is held of the site behind a pool. The own site is up: we are
// there, and the load balancer sees the rest.
func (c *scene) light(p discovery.Pool) weight.Light {
	if !c.gateway() {
		return weight.Unknown
	}
	if p.Outside() || p.Site == c.s.Self.Site {
		return weight.Up
	}
	if pl := c.place(p.Site); pl != nil && pl.status != nil {
		switch pl.status.Verdict {
		case Up:
			return weight.Up
		case Dark:
			return weight.Dark
		}
	}
	return weight.Unknown
}

func unsettled(pools int) weight.Answer {
	a := weight.Answer{State: weight.Keep, Goals: make([]weight.Goal, pools)}
	for i := range a.Goals {
		a.Goals[i] = weight.Goal{Weight: -1, Reason: discovery.ReasonUnsettled}
	}
	return a
}

func routeStatus(r *discovery.Route, in *weight.Route, a weight.Answer) RouteStatus {
	st := RouteStatus{Route: r.Name, State: string(a.State), Until: a.Until, Pools: make([]PoolStatus, len(r.Pools))}
	for i, p := range r.Pools {
		w := &in.Pools[i]
		st.Pools[i] = PoolStatus{
			Pool: p.Name, Site: p.Site, Now: w.Now, Goal: a.Goals[i].Weight, Normal: p.Weight,
			Healthy: w.Healthy, Registered: w.Registered, Reason: a.Goals[i].Reason,
		}
	}
	return st
}

// split is the wish for a rule: every pool of which something may be said. Its
// reason is that of the first pool that is not normal.
func split(r *discovery.Route, a weight.Answer) discovery.SplitWish {
	w := discovery.SplitWish{
		Rule: r.Rule, Stickiness: a.Stickiness, Reason: discovery.ReasonNormal,
		Weights: make([]discovery.GroupWeight, 0, len(a.Goals)),
	}
	for i, g := range a.Goals {
		if g.Weight < 0 {
			continue
		}
		w.Weights = append(w.Weights, discovery.GroupWeight{Group: r.Pools[i].TargetGroup, Weight: g.Weight})
		if w.Reason == discovery.ReasonNormal {
			w.Reason = g.Reason
		}
	}
	slices.SortFunc(w.Weights, func(a, b discovery.GroupWeight) int { return strings.Compare(a.Group, b.Group) })
	return w
}
