package decide

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel/path"
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

// searchAfter is the silence after which a gateway's names are believed more
// than its record.
const searchAfter = 4 * time.Second

// force counts the epochs of a server's gateways, and goes through their
// addresses while they are silent. Gateways force nothing: a server without
// endpoint could not be dialled again.
func (c *scene) force() {
	able, after := c.canJudge(), c.forceAfter()
	lit := false
	for _, i := range c.gates {
		lit = lit || c.within(c.mates[i].proof, after)
	}
	for _, i := range c.gates {
		if i == c.self {
			continue
		}
		m := &c.mates[i]
		e := EpochMemory{Gateway: m.ID}
		if o := c.old.epoch(m.ID); o != nil {
			e = *o
		}
		if m.proof.After(e.Last) {
			e.Bumps = 0
		}
		c.forceOne(m, &e, able, after, lit)
		c.m.Epochs = append(c.m.Epochs, e)
	}
}

// forceOne decides where a gateway is dialled, and whether to shake hands anew.
func (c *scene) forceOne(m *mate, e *EpochMemory, able bool, after time.Duration, lit bool) {
	silent := c.now.Sub(later(m.proof, c.s.Sight.Started))
	doors, found := c.doors(m)
	news := netip.AddrPort{}
	if i := slices.IndexFunc(doors, func(d netip.AddrPort) bool { return !slices.Contains(e.Known, d) }); i >= 0 && e.Known != nil {
		news = doors[i]
	}
	e.Known = doors
	if !slices.Contains(doors, e.At) {
		e.At = netip.AddrPort{}
		if len(doors) > 0 {
			e.At = doors[0]
		}
	}
	switch {
	case m.jolt:
		e.bump(c.now)
	case !able || silent < after:
	case news.IsValid(): // it has moved, and its record or its name says where
		e.bump(c.now)
		e.Bumps, e.At = 1, news
	case silent >= searchAfter && c.now.Sub(e.Last) >= forceAfter && len(found) > 0 && !slices.Contains(found, e.At):
		e.bump(c.now)
		e.At = found[0]
	case c.due(e, silent, after, lit):
		e.bump(c.now)
		if n := len(doors); n > 1 && e.Bumps > 1 && e.Bumps%2 == 1 { // two handshakes for each
			e.At = doors[(slices.Index(doors, e.At)+1)%n]
		}
	}
}

func (e *EpochMemory) bump(now time.Time) {
	e.Epoch++
	e.Bumps++
	e.Last = now
}

// doors are the addresses at which a gateway may be dialled: those of its
// record, and then those that were found under its names.
func (c *scene) doors(m *mate) (all, found []netip.AddrPort) {
	lo, _ := slices.BinarySearchFunc(c.s.Resolved, m.ID, func(e discovery.Endpoint, id discovery.NodeID) int {
		return strings.Compare(string(e.Node), string(id))
	})
	for _, e := range c.s.Resolved[lo:] {
		if e.Node != m.ID {
			break
		}
		found = append(found, e.Addr)
	}
	return path.Endpoints(c.inside(), m.Endpoints, found), path.Endpoints(c.inside(), nil, found)
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
