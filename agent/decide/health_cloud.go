package decide

import (
	"time"

	"drawbridge/agent/weight"
	"drawbridge/discovery"
)

// healthCloud reports what cannot be read, and targets that the load balancer
// does not reach although their site is up.
func (c *scene) healthCloud() {
	for i := range c.s.Cloud.Splits {
		s := &c.s.Cloud.Splits[i]
		c.unread(s.Rule, s.Read, s.Err)
	}
	for i := range c.s.Cloud.NextHops {
		h := &c.s.Cloud.NextHops[i]
		c.unread(h.Table, h.Read, h.Err)
	}
	for i := range c.s.Cloud.Groups {
		g := &c.s.Cloud.Groups[i]
		c.unread(g.ID, g.Read, g.Err)
	}
	last := ""
	for _, s := range c.shares {
		g := c.groupReading(s.group)
		if g == nil || s.group == last || !c.siteUp(s.site) {
			continue
		}
		last = s.group
		bad, why := 0, ""
		for _, t := range g.Targets {
			if t.State == discovery.TargetUnhealthy {
				bad++
				if t.Reason != "" {
					why = " (" + t.Reason + ")"
				}
			}
		}
		if bad > 0 {
			c.report("target-unhealthy", Warning, s.group, "check security groups, the VPC route of the mesh prefix and the service itself",
				"the load balancer calls %d of %d targets unhealthy although site %s is up%s", bad, len(g.Targets), s.site, why)
		}
	}
}

const unreadNext = "check credentials, permissions, the region and names in the configuration, and the path to AWS"

func (c *scene) unread(subject string, read time.Time, err string) {
	if err == "" {
		return
	}
	text := "last reading of %s kept; the newest failed: %s"
	if read.IsZero() {
		c.report("aws-unread", Warning, subject, unreadNext, "never read: %s", err)
		return
	}
	c.report("aws-unread", Warning, subject, unreadNext,
		text, read.UTC().Format("15:04:05"), err)
}

// healthRoutes reports routes that cannot be moved although they should be,
// and returns that wait for something.
func (c *scene) healthRoutes() {
	for i := range c.p.Routes {
		r := &c.p.Routes[i]
		for _, p := range r.Pools {
			if c.healthPool(r, &p) {
				break
			}
		}
	}
}

func (c *scene) healthPool(r *RouteStatus, p *PoolStatus) bool {
	kept := r.State == string(weight.Keep)
	switch {
	case p.Reason == discovery.ReasonNoAlternative && kept:
		c.report("no-alternative", Broken, r.Route, "bring up targets in another pool of the route",
			"weight should move, but no other pool has a target that the load balancer calls healthy; weights are kept")
	case p.Reason == discovery.ReasonAllZero && kept:
		c.report("all-zero", Broken, r.Route, "add a pool outside the dark sites to the route",
			"every pool of the route is dark; weights are kept, for all at 0 would refuse everyone")
	case p.Reason == discovery.ReasonUnread && kept:
		c.report("route-unread", Warning, r.Route, "see aws-unread", "what AWS has for this route is not known; weights are kept")
	case p.Reason == discovery.ReasonForeign:
		c.report("foreign-change", Broken, r.Route, "find who writes the rule's weights: a person, a deployment tool, or a gateway that sees what this one does not",
			"pool %s was set to 0 and somebody else raised it to %d; it is left so", p.Pool, p.Now)
	case p.Reason == discovery.ReasonUnhealthy:
		c.report("return-waits", Warning, r.Route, "check why the load balancer does not reach the targets",
			"site %s is back, but the load balancer calls only %d of %d targets healthy", p.Site, p.Healthy, p.Registered)
	case p.Reason == discovery.ReasonRateLimit:
		c.report("rate-limit", Note, r.Route, "wait", "the return is delayed: too many changes within a minute")
	default:
		return false
	}
	return true
}
