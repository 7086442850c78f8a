package config

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// writtenRoute is a route together with its place in the file.
type writtenRoute struct {
	*section
	route discovery.Route
	pools []*section
}

func readRoutes(s *section, c *Settings) []writtenRoute {
	var all []writtenRoute
	for _, n := range s.subs("routes") {
		w := readRoute(n)
		all = append(all, w)
		c.Routes = append(c.Routes, w.route)
	}
	slices.SortFunc(c.Routes, func(a, b discovery.Route) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func readRoute(n *section) writtenRoute {
	r := defaultRoute()
	field(n, "name", &r.Name, label)
	field(n, "rule", &r.Rule, like(ruleShape, "the ARN of a listener rule, arn:aws:elasticloadbalancing:REGION:ACCOUNT:listener-rule/app/..."))
	field(n, "policy", &r.Policy, oneOf(discovery.PolicyStatic))
	// ELB keeps a group cookie for 1 s to 7 days
	// (TargetGroupStickinessConfig.DurationSeconds).
	field(n, "stickiness", &r.Stickiness, zeroOr(duration(time.Second, 7*24*time.Hour)))
	field(n, "hold_down", &r.HoldDown, duration(time.Second, time.Hour))
	field(n, "hold_max", &r.HoldMax, duration(time.Second, 24*time.Hour))
	list(n, "ramp", &r.Ramp, integer(1, 100))
	field(n, "ramp_step", &r.RampStep, duration(time.Second, time.Hour))
	pools := n.subs("pools")
	for _, p := range pools {
		r.Pools = append(r.Pools, readPool(p))
	}
	n.done()
	n.require("a route", "name", "rule", "pools")
	if r.Stickiness%time.Second != 0 {
		n.fail("stickiness", "stickiness %s: ELB knows whole seconds only", short(r.Stickiness))
	}
	if r.HoldMax < r.HoldDown {
		n.fail("hold_max", "hold_max %s is shorter than hold_down %s", short(r.HoldMax), short(r.HoldDown))
	}
	checkRamp(n, r.Ramp)
	checkPools(n, r, pools)
	return writtenRoute{n, r, pools}
}

func readPool(n *section) discovery.Pool {
	p := discovery.Pool{Weight: -1} // stays so only beside a problem
	field(n, "name", &p.Name, label)
	field(n, "site", &p.Site, siteLabel)
	field(n, "service", &p.Service, label)
	field(n, "target_group", &p.TargetGroup, like(groupShape, "the ARN of a target group, arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/..."))
	field(n, "weight", &p.Weight, integer(0, discovery.MaxWeight))
	n.done()
	n.require("a pool", "name", "target_group", "weight")
	switch {
	case n.has("site") && !n.has("service"):
		n.fail("site", "a pool of a site needs the service that its nodes serve")
	case n.has("service") && !n.has("site"):
		n.fail("service", "a pool with a service needs the site whose nodes serve it; leave both out for a target group that others fill")
	}
	return p
}

func checkRamp(n *section, ramp []int) {
	ascending := slices.IsSorted(ramp) && len(slices.Compact(slices.Clone(ramp))) == len(ramp)
	if len(ramp) == 0 || len(ramp) > 20 || !ascending || ramp[len(ramp)-1] != 100 {
		n.fail("ramp", "ramp %v, want up to 20 ascending percentages that end in 100", ramp)
	}
}

// checkPools looks at what the pools of one route have to do with each other.
func checkPools(n *section, r discovery.Route, pools []*section) {
	if !n.has("pools") {
		return
	}
	switch {
	case len(pools) > discovery.MaxGroupsInAction:
		n.fail("pools", "%d pools, but ELB forwards to at most %d target groups in one rule", len(pools), discovery.MaxGroupsInAction)
	case len(pools) < 2:
		n.fail("pools", "a route needs two pools: with one there is nowhere to move weight to when it goes dark")
	}
	names, groups := map[string]bool{}, map[string]string{}
	weightless, sites := 0, 0
	for i, p := range r.Pools {
		if p.Name != "" && names[p.Name] {
			pools[i].fail("name", "pool %q is written twice in this route", p.Name)
		}
		if other, taken := groups[p.TargetGroup]; taken && p.TargetGroup != "" {
			pools[i].fail("target_group", "the same target group as pool %q; weights are per target group, so each pool needs its own", other)
		}
		names[p.Name], groups[p.TargetGroup] = true, p.Name
		if p.Weight == 0 {
			weightless++
		}
		if pools[i].has("site") {
			sites++
		}
	}
	if len(pools) >= 2 && weightless == len(pools) {
		n.fail("pools", "all weights are 0, so the route would serve nobody")
	}
	if len(pools) >= 2 && sites == 0 {
		n.fail("pools", "no pool names a site, so there is nothing to watch; give the on-premises pool its site and service")
	}
}

// checkRoutes looks at what routes have to do with each other and with AWS.
func checkRoutes(all []writtenRoute, region string) {
	names, rules := map[string]bool{}, map[string]string{}
	type filler struct{ route, site, service string }
	groups := map[string]filler{}
	for _, w := range all {
		r := w.route
		if r.Name != "" && names[r.Name] {
			w.fail("name", "route %q is written twice", r.Name)
		}
		if other, taken := rules[r.Rule]; taken && r.Rule != "" {
			w.fail("rule", "the same rule as route %q; two routes would fight over its weights", other)
		}
		names[r.Name], rules[r.Rule] = true, r.Name
		home := arnHome(r.Rule)
		if in, _, _ := strings.Cut(home, " "); in != "" && region != "" && in != region {
			w.fail("rule", "the rule is in %s, but aws.region is %s", in, region)
		}
		for i, p := range r.Pools {
			if g := arnHome(p.TargetGroup); g != "" && home != "" && g != home {
				w.pools[i].fail("target_group", "in %s, but the rule is in %s (region, account); ELB forwards only within both", g, home)
			}
			f := filler{r.Name, p.Site, p.Service}
			g, taken := groups[p.TargetGroup]
			if taken && p.TargetGroup != "" && g.route != f.route && (g.site != f.site || g.service != f.service) {
				w.pools[i].fail("target_group", "route %q fills the same target group with another site or service", g.route)
			}
			if !taken {
				groups[p.TargetGroup] = f
			}
		}
	}
}
