package weight

import (
	"time"

	"drawbridge/discovery"
)

// Next is one decision on a route: the new memory and the plan. It does not
// change m.
func Next(now time.Time, m Memory, r Route) (Memory, Answer) {
	t := turn{now: now, r: r.defaults()}
	t.m.Changes = recent(now, m.Changes)
	t.m.Pools = make([]PoolMemory, len(r.Pools))
	goals := make([]Goal, len(r.Pools))
	for i, p := range r.Pools {
		t.m.Pools[i], goals[i] = t.phase(m.of(p.Name), p)
	}
	why := t.guard(goals)
	if why == "" && !decided(r.Pools) {
		why = discovery.ReasonUndecided
	}
	if why != "" {
		for i := range goals {
			goals[i] = Goal{-1, why}
		}
		return t.m, Answer{State: Keep, Goals: goals}
	}
	t.shift(goals)
	a := Answer{Goals: goals}
	a.State, a.Until = t.state()
	a.Stickiness = t.stickiness(goals)
	return t.m, a
}

func (m Memory) of(pool string) PoolMemory {
	for _, p := range m.Pools {
		if p.Pool == pool {
			return p
		}
	}
	return PoolMemory{Pool: pool}
}

// Restarted is what is left of a memory that was read from disk: how often a
// pool fell lately. Where it stands now, the load balancer tells.
func (m Memory) Restarted() Memory {
	out := Memory{Changes: m.Changes}
	for _, p := range m.Pools {
		out.Pools = append(out.Pools, PoolMemory{Pool: p.Pool, Since: p.Since, Hold: p.Hold})
	}
	return out
}

// decided: the verdict on a site behind the route is known, or there is none
// to wait for.
func decided(pools []Pool) bool {
	sites := false
	for _, p := range pools {
		if !p.Outside && p.Light != Unknown {
			return true
		}
		sites = sites || !p.Outside
	}
	return !sites
}

// shift remembers which dark pools were planned to 0.
func (t *turn) shift(goals []Goal) {
	for i, g := range goals {
		m := &t.m.Pools[i]
		if m.Phase == Down && g.Weight == 0 && !m.Shifted {
			m.Shifted = true
			t.changed()
		}
	}
}

// state is the phase furthest from normal, and when its wait ends.
func (t *turn) state() (Phase, time.Time) {
	state, until := Normal, time.Time{}
	for _, rank := range []Phase{Down, Waiting, Ramping} {
		for _, m := range t.m.Pools {
			if m.Phase != rank {
				continue
			}
			state = rank
			if until.IsZero() || !m.Until.IsZero() && m.Until.Before(until) {
				until = m.Until
			}
		}
		if state != Normal {
			break
		}
	}
	return state, until
}

// stickiness: cookies beat weights, so it is off while any weight is 0, and
// comes back with the last pool.
func (t *turn) stickiness(goals []Goal) *time.Duration {
	normal := t.r.Stickiness > 0
	for i, g := range goals {
		if g.Weight == 0 || g.Weight < 0 && t.r.Pools[i].Now == 0 {
			return new(time.Duration)
		}
		normal = normal && t.m.Pools[i].Phase == Normal
	}
	if !normal {
		return nil
	}
	d := t.r.Stickiness
	return &d
}
