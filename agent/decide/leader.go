package decide

import "drawbridge/discovery"

// lead names who should write to the cloud: the holder of the lease, or,
// without a lease store, the lowest living gateway that stays.
func (c *scene) lead() {
	if l := c.s.Lease; l != nil {
		c.p.LeaderReason = discovery.ReasonNoLease
		if l.Holder != "" && c.now.Before(l.Until) {
			c.p.Leader, c.p.LeaderReason = l.Holder, discovery.ReasonLease
		}
		return
	}
	c.p.LeaderReason = discovery.ReasonLowest
	draining := discovery.NodeID("")
	for _, i := range c.gates {
		if !c.living(i) {
			continue
		}
		if !c.mates[i].Draining {
			c.p.Leader = c.mates[i].ID
			return
		}
		if draining == "" {
			draining = c.mates[i].ID
		}
	}
	c.p.Leader = draining
}

func (c *scene) leads() bool { return c.p.Leader != "" && c.p.Leader == c.s.Self.ID }
