package weight

// adopt takes the load balancer's weights as the truth where there is no
// memory, or where another node writes.
func (t *turn) adopt(m PoolMemory, p Pool) PoolMemory {
	if t.r.Read.IsZero() {
		return m
	}
	if m.Phase == "" {
		return t.found(m, p)
	}
	if t.r.Writer || !t.r.Read.After(m.Since) {
		return m
	}
	switch m.Phase {
	case Waiting:
		if p.Now > 0 {
			return t.found(m, p)
		}
	case Normal:
		if p.Now >= 0 && p.Now < p.Normal {
			return t.found(m, p)
		}
	case Ramping:
		ahead := p.Now > part(p.Normal, t.r.Ramp[m.Step])
		behind := m.Step > 0 && p.Now >= 0 && p.Now < part(p.Normal, t.r.Ramp[m.Step-1])
		if ahead || behind {
			return t.found(m, p)
		}
	}
	return m
}

// found is the phase that the weight in the load balancer stands for.
func (t *turn) found(m PoolMemory, p Pool) PoolMemory {
	switch {
	case p.Now >= p.Normal, p.Normal == 0:
		return t.normal(m, p)
	case p.Now <= 0:
		return t.waiting(m, p)
	}
	if m.Hold <= 0 {
		m.Hold = t.r.HoldDown
	}
	step := stepFor(t.r.Ramp, p.Normal, p.Now)
	return PoolMemory{Pool: p.Name, Phase: Ramping, Since: t.now, Step: step, Hold: m.Hold, Shifted: true}
}
