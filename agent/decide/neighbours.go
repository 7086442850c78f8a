package decide

import (
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
	"drawbridge/tunnel/path"
)

// Times of the paths without a gateway.
const (
	// A session that is older carries nothing any more (Reject-After-Time of the
	// WireGuard paper, section 6.1).
	sessionLife = 180 * time.Second
	// A door is tried for so long: two handshakes, which are 5 s apart.
	tryFor = 10 * time.Second
	// After this many tries in vain the pauses between two begin to double.
	tryOften  = 6
	restMost  = time.Hour
	holdFirst = 2 * time.Second // a path that broke once is not used again for so long
	holdMost  = 5 * time.Minute
	// A path that held for so long has never broken.
	holdEnds = 5 * time.Minute
	// Pulses over a direct path: two a second for a few neighbours, less for many.
	nearLeast = 500 * time.Millisecond
	nearEach  = 50 * time.Millisecond
)

// neighbours tries to reach other servers without a gateway, and says which of
// them this node has a session with. A path moves when both ends say so; it
// moves back as soon as one does not.
func (c *scene) neighbours(self *path.Self, nodes []path.Node, mates []int32) {
	if c.gateway() {
		return
	}
	if c.s.Device == nil {
		c.m.Near = c.old.Near
		return
	}
	c.p.Direct = make([]netip.Addr, 0, len(self.Direct))
	able := c.canJudge()
	for _, i := range path.Neighbours(*self, nodes) {
		n, m := &nodes[i], &c.mates[mates[i]]
		doors := path.Doors(c.inside(), self.Local, n.Local)
		if len(doors) == 0 || c.departed(m) {
			continue
		}
		e := NearMemory{Node: n.ID, First: doors[0], Door: doors[0], Since: c.now}
		if o := c.old.near(n.ID); o != nil {
			e = *o
		}
		if e.First != doors[0] { // it moved, or this node did
			e.First, e.Door, e.Tries, e.Since = doors[0], doors[0], 0, c.now
		}
		if c.meets(&e, self, n, m, able, doors) {
			c.p.Direct = append(c.p.Direct, n.Addr)
			c.direct = append(c.direct, mates[i])
		}
		n.Try, n.Epoch, n.Endpoint = true, e.Epoch, e.Door
		if e.Door.IsValid() {
			n.Keepalive = path.Keepalive
		}
		c.m.Near = append(c.m.Near, e)
	}
	slices.SortFunc(c.p.Direct, netip.Addr.Compare)
	// What is given up is given up now; what is new waits until it was said.
	self.Direct = slices.DeleteFunc(slices.Clone(self.Direct), func(a netip.Addr) bool {
		_, ok := slices.BinarySearchFunc(c.p.Direct, a, netip.Addr.Compare)
		return !ok
	})
}

// departed: gossip holds the node dead or departed, and nothing proves the contrary.
func (c *scene) departed(m *mate) bool {
	return (m.State == discovery.StateDead || m.State == discovery.StateLeft) && !c.within(m.proof, 2*time.Second)
}

// meets goes on with one neighbour, and reports whether it is to be called one.
func (c *scene) meets(e *NearMemory, self *path.Self, n *path.Node, m *mate, able bool, doors []netip.AddrPort) bool {
	st := c.peerStatus(n.Key)
	fresh := st != nil && c.within(st.LastHandshake, sessionLife) && st.LastHandshake.After(e.Lost)
	switch both := path.Mutual(self, n); {
	case !both:
		e.Moved = time.Time{}
	case e.Moved.IsZero():
		e.Moved = c.now
	}
	silent := !e.Moved.IsZero() && able && c.now.Sub(later(m.proof, e.Moved)) > nearSilence(self, n)
	if !e.Moved.IsZero() && (silent || !fresh) {
		e.Lost, e.Moved = c.now, time.Time{}
		e.Times++
		e.Epoch++
		e.Tries, e.Since, e.Door = 0, c.now, doors[0]
		return false
	}
	if !fresh {
		e.search(c.now, doors)
		return false
	}
	e.Tries, e.Since = 0, c.now
	if !e.Moved.IsZero() && c.now.Sub(e.Moved) > holdEnds {
		e.Times = 0
	}
	return e.Times == 0 || !e.Moved.IsZero() || c.now.Sub(e.Lost) >= min(holdFirst<<min(e.Times-1, 16), holdMost)
}

// search tries one door after the other, and rests longer and longer when all
// are in vain. While it rests the neighbour is a peer that may dial.
func (e *NearMemory) search(now time.Time, doors []netip.AddrPort) {
	rest := time.Duration(0)
	if e.Tries >= tryOften {
		rest = min(tryFor<<min(e.Tries-tryOften, 16), restMost)
	}
	passed := now.Sub(e.Since)
	switch {
	case e.Door.IsValid() && passed < tryFor:
	case e.Door.IsValid():
		e.Tries++
		e.Since = now
		e.Door = netip.AddrPort{}
		if e.Tries < tryOften {
			e.Door = doors[e.Tries%len(doors)]
			e.Epoch++
		}
	case passed >= rest:
		e.Since, e.Door = now, doors[e.Tries%len(doors)]
		e.Epoch++
	}
}

// peerStatus is what the device says of a peer; nil: it has none.
func (c *scene) peerStatus(k tunnel.Key) *tunnel.PeerStatus {
	ps := c.s.Device.Peers
	i, ok := slices.BinarySearchFunc(ps, k, func(p tunnel.PeerStatus, k tunnel.Key) int { return p.Key.Compare(k) })
	if !ok {
		return nil
	}
	return &ps[i]
}

// nearEvery is the time between two pulses of a server with so many neighbours.
func nearEvery(n int) time.Duration { return max(nearLeast, time.Duration(n)*nearEach) }

// nearSilence is how long a direct path may be without proof: both ends' pulses,
// twice.
func nearSilence(self *path.Self, n *path.Node) time.Duration {
	return 2 * (nearEvery(len(self.Direct)) + nearEvery(len(n.Direct)))
}

// pulseNeighbours keeps an eye on the direct paths.
func (c *scene) pulseNeighbours(w *discovery.ProbeWish) {
	every := nearEvery(len(c.direct))
	for _, i := range c.direct {
		p := c.pulse(int(i), "", false)
		p.Every = every
		w.Peers = append(w.Peers, p)
	}
}
