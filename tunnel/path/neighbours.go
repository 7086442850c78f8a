package path

import (
	"math/bits"
	"net/netip"
	"slices"

	"drawbridge/discovery"
)

// MaxNeighbours is how many servers one server may have as neighbours: what
// fits into its record.
const MaxNeighbours = 60

// Mutual reports whether the records of two servers each call the other a
// neighbour. It is the whole condition for a direct path: both ends evaluate it
// on the same two signed records.
func Mutual(self *Self, n *Node) bool {
	return self.Role != discovery.RoleGateway && n.Role != discovery.RoleGateway &&
		holds(self.Direct, n.Addr) && holds(n.Direct, self.Addr)
}

func holds(list []netip.Addr, a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(list, a, netip.Addr.Compare)
	return ok
}

// Neighbours are the indexes of the servers that self may try to reach without
// a gateway: those of its site and those behind the same NAT, as far as they
// say where. nodes are sorted by ID and do not include self.
//
// Of more than MaxNeighbours the nearest in a ring of all of them by ID are
// taken, half to each side, so that two nodes choose each other or neither does.
func Neighbours(self Self, nodes []Node) []int {
	if self.Role == discovery.RoleGateway || len(self.Local) == 0 {
		return nil
	}
	var near []int
	after := 0 // how many of near come after self in the ring's order
	for i := range nodes {
		n := &nodes[i]
		if n.Role == discovery.RoleGateway || !n.usable() || len(n.Local) == 0 || n.ID == self.ID || !nearby(&self, n) {
			continue
		}
		near = append(near, i)
		if n.ID > self.ID {
			after++
		}
	}
	if len(near) <= MaxNeighbours {
		return near
	}
	// Begin with who comes after self; the ring's end is who comes before.
	ring := slices.Concat(near[len(near)-after:], near[:len(near)-after])
	half := MaxNeighbours / 2
	out := slices.Concat(ring[:half], ring[len(ring)-half:])
	slices.Sort(out)
	return out
}

// nearby: one site, or one public address.
func nearby(self *Self, n *Node) bool {
	if self.Site != "" && self.Site == n.Site {
		return true
	}
	for _, a := range self.Seen {
		for _, b := range n.Seen {
			if a.Addr() == b.Addr() {
				return true
			}
		}
	}
	return false
}

// Doors are the addresses at which a neighbour may be dialled, the likeliest
// first: the longer the beginning that it shares with an own address, the
// likelier both are on one wire. None is one of our own, or in a prefix that is
// routed into the mesh; a public one must lie beside an own address, so that a
// hostile member cannot make others send to whomever it likes.
func Doors(inside []netip.Prefix, own, theirs []netip.AddrPort) []netip.AddrPort {
	type door struct {
		at     netip.AddrPort
		shared int
	}
	var doors []door
	for _, t := range theirs {
		if !t.IsValid() || t.Port() == 0 || within(inside, t.Addr()) || t.Addr().IsLoopback() || t.Addr().IsUnspecified() || t.Addr().IsMulticast() {
			continue
		}
		d, mine := door{at: t, shared: -1}, false
		for _, o := range own {
			mine = mine || o == t
			if o.Addr().BitLen() == t.Addr().BitLen() {
				d.shared = max(d.shared, sharedBits(o.Addr(), t.Addr()))
			}
		}
		beside := d.shared >= 24 && t.Addr().Is4() || d.shared >= 64
		if d.shared >= 0 && !mine && (t.Addr().IsPrivate() || beside) {
			doors = append(doors, d)
		}
	}
	slices.SortStableFunc(doors, func(a, b door) int {
		if a.shared != b.shared {
			return b.shared - a.shared
		}
		return a.at.Compare(b.at)
	})
	out := make([]netip.AddrPort, len(doors))
	for i, d := range doors {
		out[i] = d.at
	}
	return out
}

// sharedBits is how many leading bits two addresses of one family share.
func sharedBits(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 8 * len(x)
}
