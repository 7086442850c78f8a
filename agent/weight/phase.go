package weight

import (
	"time"

	"drawbridge/discovery"
)

// calm is how long a pool must have been normal until its past is forgotten.
const calm = 30 * time.Minute

// turn is one decision on one route.
type turn struct {
	now time.Time
	r   Route
	m   Memory // the new one
}

// phase moves one pool and says which weight it wants.
func (t *turn) phase(m PoolMemory, p Pool) (PoolMemory, Goal) {
	if p.Outside {
		return PoolMemory{Pool: p.Name, Phase: Normal}, Goal{p.Normal, discovery.ReasonNormal}
	}
	switch p.Light {
	case Dark:
		m = t.darken(m, p)
		if m.Held {
			return m, Goal{-1, discovery.ReasonForeign}
		}
		return m, Goal{0, discovery.ReasonSiteDark}
	case Up:
		m = t.brighten(t.adopt(m, p), p)
	default:
		return m, Goal{-1, discovery.ReasonUndecided}
	}
	switch m.Phase {
	case Waiting:
		return t.wait(m, p)
	case Ramping:
		return t.ramp(m, p)
	case Normal:
		return m, Goal{p.Normal, discovery.ReasonNormal}
	}
	return m, Goal{-1, discovery.ReasonUnread}
}

// darken enters or keeps the dark phase. A relapse doubles the next wait.
func (t *turn) darken(m PoolMemory, p Pool) PoolMemory {
	if m.Phase != Down {
		relapse := m.Phase == Waiting || m.Phase == Ramping || m.Hold > 0 && t.now.Sub(m.Since) < calm
		hold := t.r.HoldDown
		if relapse {
			hold = min(max(2*m.Hold, t.r.HoldDown), t.r.HoldMax)
		}
		shifted := m.Phase == Waiting || m.Phase == Ramping
		waited := m.Phase == Waiting
		m = PoolMemory{
			Pool: p.Name, Phase: Down, Since: t.now, Hold: hold, Shifted: shifted,
			Zero: waited && m.Zero, Held: waited && m.Held,
		}
	}
	if p.Now == 0 && p.Normal > 0 {
		m.Shifted = true
	}
	return m.noted(p)
}

// noted remembers that the weight was 0, as we wished, and that somebody else
// has raised it since. It may be a person, or another gateway that sees the
// site and not us; neither is fought over while the site is away.
func (m PoolMemory) noted(p Pool) PoolMemory {
	m.Held = m.Held || m.Zero && p.Now > 0
	m.Zero = m.Zero || p.Now == 0
	return m
}

// brighten leaves the dark phase: to the wait if weight was taken away, or
// straight to normal if it never was.
func (t *turn) brighten(m PoolMemory, p Pool) PoolMemory {
	if m.Phase != Down {
		return m
	}
	if m.Shifted {
		return t.waiting(m, p)
	}
	return t.normal(m, p)
}

func (t *turn) waiting(m PoolMemory, p Pool) PoolMemory {
	hold := m.Hold
	if hold <= 0 {
		hold = t.r.HoldDown
	}
	hold = min(hold, t.r.HoldMax)
	return PoolMemory{Pool: p.Name, Phase: Waiting, Since: t.now, Until: t.now.Add(hold), Hold: hold, Shifted: true, Zero: m.Zero, Held: m.Held}
}

func (t *turn) normal(m PoolMemory, p Pool) PoolMemory {
	return PoolMemory{Pool: p.Name, Phase: Normal, Since: t.now, Hold: m.Hold}
}

// wait holds the weight at 0 until time and the load balancer's own health
// checks allow the return.
func (t *turn) wait(m PoolMemory, p Pool) (PoolMemory, Goal) {
	// A clock that was set back must not stretch the wait beyond its bound.
	if most := t.now.Add(t.r.HoldMax); m.Until.After(most) {
		m.Until = most
	}
	m = m.noted(p)
	switch over := !t.now.Before(m.Until); {
	case m.Held && over:
		return t.found(PoolMemory{Hold: m.Hold}, p), Goal{-1, discovery.ReasonForeign}
	case m.Held:
		return m, Goal{-1, discovery.ReasonForeign}
	case !over:
		return m, Goal{0, discovery.ReasonHoldDown}
	}
	if why := t.mayRise(p); why != "" {
		return m, Goal{0, why}
	}
	t.changed()
	m = PoolMemory{Pool: p.Name, Phase: Ramping, Since: t.now, Hold: m.Hold, Shifted: true}
	return m, Goal{part(p.Normal, t.r.Ramp[0]), discovery.ReasonRamp}
}

// ramp climbs one step at a time, each only after the one before was seen in
// the load balancer for its whole time.
func (t *turn) ramp(m PoolMemory, p Pool) (PoolMemory, Goal) {
	m.Step = min(max(m.Step, 0), len(t.r.Ramp)-1)
	want := part(p.Normal, t.r.Ramp[m.Step])
	if p.Now != want || !t.r.Read.After(m.Since) {
		return m, Goal{want, discovery.ReasonRamp}
	}
	if want >= p.Normal {
		return t.normal(m, p), Goal{p.Normal, discovery.ReasonNormal}
	}
	if most := t.now.Add(t.r.RampStep); m.Until.IsZero() || m.Until.After(most) {
		m.Until = most
	}
	if t.now.Before(m.Until) || m.Step == len(t.r.Ramp)-1 {
		return m, Goal{want, discovery.ReasonRamp}
	}
	if why := t.mayRise(p); why != "" {
		return m, Goal{want, why}
	}
	t.changed()
	m.Step, m.Since, m.Until = m.Step+1, t.now, time.Time{}
	return m, Goal{part(p.Normal, t.r.Ramp[m.Step]), discovery.ReasonRamp}
}

// mayRise says why a pool may not get more weight now; "" when it may.
func (t *turn) mayRise(p Pool) discovery.Reason {
	switch {
	case !fresh(t.now, t.r.Read, returnFresh) || !fresh(t.now, p.Read, returnFresh):
		return discovery.ReasonUnread
	case !enough(p):
		return discovery.ReasonUnhealthy
	case len(t.m.Changes) >= limitChanges:
		return discovery.ReasonRateLimit
	}
	return ""
}

func (t *turn) changed() { t.m.Changes = append(t.m.Changes, t.now) }
