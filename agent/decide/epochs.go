package decide

import (
	"time"

	"drawbridge/discovery"
)

// Forcing a handshake heals a path that WireGuard's timers would leave dead for
// up to 15 s, but throws a valid session away: so it backs off, and is rare
// while everything is silent, when the fault is most likely our own uplink.
const (
	forceAfter  = time.Second
	forceLonely = 30 * time.Second
)

// forceGap is the wait before the next bump, after so many.
var forceGap = [...]time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// force counts the epochs of a server's gateways. Gateways force nothing: a
// server without endpoint could not be dialled again.
func (c *scene) force() {
	if c.gateway() {
		return
	}
	able, after := c.canJudge(), c.forceAfter()
	lit := false
	for _, i := range c.gates {
		lit = lit || c.within(c.mates[i].proof, after)
	}
	for _, i := range c.gates {
		m := &c.mates[i]
		e := EpochMemory{Gateway: m.ID}
		if o := c.old.epoch(m.ID); o != nil {
			e = *o
		}
		if m.proof.After(e.Last) {
			e.Bumps = 0
		}
		if m.jolt || able && c.due(&e, c.now.Sub(later(m.proof, c.s.Sight.Started)), after, lit) {
			e.Epoch++
			e.Bumps++
			e.Last = c.now
		}
		if e.Epoch > 0 {
			c.m.Epochs = append(c.m.Epochs, e)
		}
	}
}

// due reports whether a gateway that has been silent for so long is to be bumped.
func (c *scene) due(e *EpochMemory, silent, after time.Duration, lit bool) bool {
	pause := c.now.Sub(e.Last)
	if !lit {
		return silent >= forceLonely && pause >= forceLonely
	}
	return silent >= after && pause >= forceGap[min(e.Bumps, len(forceGap)-1)]
}

// forceAfter is the silence that is no longer normal. A server that gateways
// do not probe only pulses at rest's pace, and hears as rarely.
func (c *scene) forceAfter() time.Duration {
	if p := c.place(c.s.Self.Site); p != nil && !c.chosen(p, c.s.Self.ID, c.quota(p)) {
		return forceAfter + 2*idleInterval
	}
	return forceAfter
}

// canJudge: the own prober runs, its report is fresh, and it has not just stood
// still, so that silence means something.
func (c *scene) canJudge() bool {
	s := &c.s.Sight
	return !s.Started.IsZero() && c.within(s.At, time.Second) && !c.within(s.Paused, forceAfter)
}

// chosen reports whether gateways probe the node: it is among the first of its
// site, see rank.
func (c *scene) chosen(p *place, id discovery.NodeID, quota int) bool {
	if len(p.servers) <= quota {
		return true
	}
	for _, i := range c.rank(p)[:quota] {
		if c.mates[i].ID == id {
			return true
		}
	}
	return false
}
