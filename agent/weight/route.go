package weight

import (
	"slices"
	"time"

	"drawbridge/discovery"
)

// Light is what is held of the site behind a pool.
type Light int8

// The lights. A pool outside the mesh is always up: the load balancer alone
// judges its health.
const (
	Unknown Light = iota // undecided: keep
	Up
	Dark
)

// Pool is one share of a route as it is found.
type Pool struct {
	Name       string
	Outside    bool // not behind a site of ours
	Light      Light
	Normal     int       // configured weight, 0-999
	Now        int       // weight in the load balancer; -1 unknown, or not in the rule
	Healthy    int       // targets, by the load balancer; -1 unknown
	Registered int       // -1 unknown
	Read       time.Time // of Healthy and Registered; zero: never
}

// Route is a route as it is found.
type Route struct {
	HoldDown   time.Duration // 0: 30 s
	HoldMax    time.Duration // 0: 30 min
	Ramp       []int         // percent, ascending to 100; empty: 10, 25, 50, 100
	RampStep   time.Duration // 0: 15 s
	Stickiness time.Duration // to restore; 0: leave off
	Read       time.Time     // of the rule's weights; zero: never
	Writer     bool          // this node's plan is the one that is carried out
	Pools      []Pool        // in the operator's order
}

var defaultRamp = []int{10, 25, 50, 100}

func (r Route) defaults() Route {
	if r.HoldDown <= 0 {
		r.HoldDown = 30 * time.Second
	}
	if r.HoldMax <= 0 {
		r.HoldMax = 30 * time.Minute
	}
	r.HoldMax = max(r.HoldMax, r.HoldDown)
	if len(r.Ramp) == 0 {
		r.Ramp = defaultRamp
	}
	if r.Ramp[len(r.Ramp)-1] < 100 {
		r.Ramp = append(slices.Clone(r.Ramp), 100)
	}
	if r.RampStep <= 0 {
		r.RampStep = 15 * time.Second
	}
	return r
}

// Phase is where a pool is between darkness and normal.
type Phase string

// The phases. The empty phase: nothing known yet, the next facts decide.
const (
	Normal  Phase = "normal"
	Down    Phase = "dark"
	Waiting Phase = "waiting"
	Ramping Phase = "ramp"
	Keep    Phase = "keep" // of a route only: nothing is planned
)

// Memory is what the load balancer cannot tell of a route. The zero value is
// no memory.
type Memory struct {
	Pools   []PoolMemory `json:"pools,omitempty"`
	Changes []time.Time  `json:"changes,omitempty"` // planned within the last minute
}

// PoolMemory is how far a pool has come, and how often it fell.
type PoolMemory struct {
	Pool  string        `json:"pool"`
	Phase Phase         `json:"phase,omitempty"`
	Since time.Time     `json:"since,omitzero"` // of the phase, or of the ramp's step
	Until time.Time     `json:"until,omitzero"` // end of the wait, or of a step that was seen written
	Step  int           `json:"step,omitempty"` // of the ramp
	Hold  time.Duration `json:"hold,omitempty"` // the next wait
	// Shifted: weight 0 was planned or seen since the pool went dark.
	Shifted bool `json:"shifted,omitempty"`
	// Zero: weight 0 was read since then. Held: somebody else raised it later.
	Zero bool `json:"zero,omitempty"`
	Held bool `json:"held,omitempty"`
}

// Goal is the weight wanted of one pool; -1 keeps what is there.
type Goal struct {
	Weight int
	Reason discovery.Reason
}

// Answer is the plan for one route.
type Answer struct {
	State Phase  // the phase furthest from normal, or Keep
	Goals []Goal // one for each pool
	Until time.Time
	// Stickiness: nil keeps it, 0 switches it off.
	Stickiness *time.Duration
}
