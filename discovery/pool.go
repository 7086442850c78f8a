package discovery

import "time"

// PolicyKind names a weight policy.
type PolicyKind string

// PolicyStatic is the policy of fixed shares: normal weights, 0 when dark.
const PolicyStatic PolicyKind = "static"

// Pool is one share of a route: the nodes of a site that serve a service, or
// something outside the mesh that the cloud already knows (Site empty).
type Pool struct {
	Name        string
	Site        string // empty: outside the mesh; its targets are never ours
	Service     string // with Site: the service to register
	TargetGroup string // ARN
	Weight      int    // normal weight, 0-999
}

// Outside reports whether the pool's targets are someone else's.
func (p Pool) Outside() bool { return p.Site == "" }

// Route is how one public service is split over pools.
type Route struct {
	Name   string
	Rule   string // ARN of the ELB listener rule whose forward action we keep
	Policy PolicyKind
	Pools  []Pool // in the operator's order; at most 5 (ELB limit per action)
	// Stickiness is the target-group stickiness to restore when every pool
	// carries weight again; 0 leaves it off once it was switched off.
	Stickiness time.Duration
	HoldDown   time.Duration // first wait after a site's return; doubles on relapse
	HoldMax    time.Duration // and its bound
	Ramp       []int         // steps of the return, percent of normal, ascending to 100
	RampStep   time.Duration // time on each step
}
