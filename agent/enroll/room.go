package enroll

import "slices"

// room is a number of places. The guests are in the order in which they came.
type room []*guest

// admit gives a place to g. When all size places are taken somebody loses his,
// whom admit returns; false when nobody has to go for g.
func (r *room) admit(g *guest, size int) (other *guest, ok bool) {
	if len(*r) >= size {
		i := r.least(g)
		if i < 0 {
			return nil, false
		}
		other = (*r)[i]
		*r = slices.Delete(*r, i, i+1)
	}
	*r = append(*r, g)
	return other, true
}

// remove reports whether g had a place.
func (r *room) remove(g *guest) bool {
	i := slices.Index(*r, g)
	if i < 0 {
		return false
	}
	*r = slices.Delete(*r, i, i+1)
	return true
}

// least is the index of the guest that goes first, -1 when there is none. For
// whom the server is working right now may stay.
func (r *room) least(newcomer *guest) int {
	best := -1
	for i, g := range *r {
		if g.source == newcomer.source || g.load < newcomer.load || g.busy.Load() {
			continue
		}
		if best < 0 || g.before((*r)[best]) {
			best = i
		}
	}
	return best
}

// before reports whether g gives up its place before h does, the older one.
func (g *guest) before(h *guest) bool {
	a, b := g.phase.Load() == phaseServed, h.phase.Load() == phaseServed
	if a != b {
		return a
	}
	return g.load > h.load
}
