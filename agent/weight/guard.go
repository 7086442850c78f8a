package weight

import (
	"slices"

	"drawbridge/discovery"
)

// guard checks the goals of all pools together and refuses what must not
// happen. It returns the reason to keep everything, "" when the goals hold.
func (t *turn) guard(goals []Goal) discovery.Reason {
	pools := t.r.Pools
	if t.r.Read.IsZero() {
		return discovery.ReasonUnread
	}
	t.standby(goals)
	if t.carrier(goals) == discovery.ReasonNoAlternative {
		t.rescue(goals)
	}
	if !t.anyWeight(goals) {
		if slices.ContainsFunc(pools, func(p Pool) bool { return p.Light != Dark }) {
			return discovery.ReasonNoAlternative
		}
		return discovery.ReasonAllZero
	}
	for i, g := range goals {
		if g.Weight == 0 && pools[i].Now > 0 {
			if why := t.carrier(goals); why != "" {
				return why
			}
			break
		}
	}
	if !slices.ContainsFunc(goals, func(g Goal) bool { return g.Weight > 0 }) {
		// The only weight left stands at a pool that we may not name.
		return discovery.ReasonUndecided
	}
	return ""
}

// standby gives the share of sites that are away to pools whose normal weight
// is 0, when no other pool has weight of its own.
func (t *turn) standby(goals []Goal) {
	away := 0
	for i, p := range t.r.Pools {
		switch ph := t.m.Pools[i].Phase; {
		case p.Normal <= 0:
		case p.Outside || ph == Normal || ph == "":
			return
		default:
			away += p.Normal
		}
	}
	if away == 0 {
		return
	}
	for i, p := range t.r.Pools {
		if p.Normal == 0 && p.Light == Up && (p.Now > 0 || carries(t.now, p)) {
			goals[i] = Goal{min(away, discovery.MaxWeight), discovery.ReasonStandby}
		}
	}
}

// rescue ends the wait of pools that are up and healthy when nothing else
// could serve: a hold-down is caution, not a reason to serve nobody.
func (t *turn) rescue(goals []Goal) {
	for i, p := range t.r.Pools {
		if t.m.Pools[i].Phase == Waiting && p.Light == Up && p.Normal > 0 && carries(t.now, p) {
			t.m.Pools[i] = t.normal(t.m.Pools[i], p)
			goals[i] = Goal{p.Normal, discovery.ReasonNormal}
			t.changed()
		}
	}
}

// anyWeight: something would carry weight, planned or kept.
func (t *turn) anyWeight(goals []Goal) bool {
	for i, g := range goals {
		if g.Weight > 0 || g.Weight < 0 && t.r.Pools[i].Now > 0 {
			return true
		}
	}
	return false
}

// carrier looks for a pool with weight that the load balancer calls healthy.
// It returns why there is none: none is healthy, or nobody knows.
func (t *turn) carrier(goals []Goal) discovery.Reason {
	why := discovery.ReasonNoAlternative
	for i, g := range goals {
		p := t.r.Pools[i]
		if p.Light == Dark || g.Weight == 0 || g.Weight < 0 && p.Now <= 0 {
			continue
		}
		if carries(t.now, p) {
			return ""
		}
		if !fresh(t.now, p.Read, carrierFresh) {
			why = discovery.ReasonUnread
		}
	}
	return why
}
