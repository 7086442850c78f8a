package decide

import (
	"slices"

	"drawbridge/agent/verdict"
	"drawbridge/agent/weight"
	"drawbridge/discovery"
)

// cloud joins everything that is wished of AWS. Servers wish for nothing; a
// route's state they only learn as kept.
func (c *scene) cloud() {
	set := &c.s.Settings
	wish := &discovery.CloudWish{Write: c.leads() && c.m.Settled}
	c.weights(wish)
	c.rememberLost()
	if !c.gateway() {
		return
	}
	if len(set.Routes) == 0 && len(set.Tables) == 0 {
		return
	}
	wish.Read = c.reads()
	c.targets(wish)
	c.nextHops(wish)
	wish.Urgent = c.urgent()
	c.p.Cloud = wish
}

func (c *scene) reads() discovery.CloudRead {
	set := &c.s.Settings
	r := discovery.CloudRead{Tables: set.Tables, Prefix: set.Mesh.Masked()}
	for _, route := range set.Routes {
		r.Rules = append(r.Rules, route.Rule)
		for _, p := range route.Pools {
			r.Groups = append(r.Groups, p.TargetGroup)
		}
	}
	slices.Sort(r.Rules)
	r.Rules = slices.Compact(r.Rules)
	slices.Sort(r.Groups)
	r.Groups = slices.Compact(r.Groups)
	return r
}

// urgent: something moves or is about to, so that news from AWS matter.
func (c *scene) urgent() bool {
	for i := range c.p.Sites {
		if s := &c.p.Sites[i]; s.Verdict != verdict.Up && s.Reason != discovery.ReasonNoNodes {
			return true
		}
	}
	for i := range c.p.Routes {
		if c.p.Routes[i].State != string(weight.Normal) {
			return true
		}
	}
	return false
}

func (c *scene) groupReading(id string) *discovery.TargetGroup {
	return find(c.s.Cloud.Groups, id, func(g *discovery.TargetGroup) string { return g.ID })
}

func (c *scene) splitReading(rule string) *discovery.Split {
	return find(c.s.Cloud.Splits, rule, func(s *discovery.Split) string { return s.Rule })
}

func (c *scene) hopReading(table string) *discovery.NextHop {
	return find(c.s.Cloud.NextHops, table, func(h *discovery.NextHop) string { return h.Table })
}
