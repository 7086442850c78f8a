package decide

import "time"

// Decide is one decision: from what was remembered and what is known now to
// what to remember and what to wish for. It changes neither m nor s, and keeps
// no pointer into m.
func Decide(now time.Time, m Memory, s *Snapshot) (Memory, *Plan) {
	c := newScene(now, m, s)
	c.judge()
	c.lead()
	c.streams()
	c.connect()
	c.filter()
	c.probe()
	c.cloud()
	c.health()
	return c.m, c.p
}
