package weight

import "time"

// part is percent of normal, rounded down, but never from something to nothing.
func part(normal, percent int) int {
	if normal <= 0 {
		return 0
	}
	return max(1, normal*percent/100)
}

// stepFor is the lowest step of the ramp that does not take weight away from
// what is there.
func stepFor(ramp []int, normal, now int) int {
	for i, percent := range ramp {
		if part(normal, percent) >= now {
			return i
		}
	}
	return len(ramp) - 1
}

// Freshness of readings that a decision may rest on.
const (
	returnFresh  = 30 * time.Second // a return waits for better news than this
	carrierFresh = 60 * time.Second // a shift does not
)

// enough: half of the targets, and at least one, are called healthy.
func enough(p Pool) bool {
	return p.Registered > 0 && p.Healthy >= max(1, (p.Registered+1)/2)
}

// carries: the load balancer itself called a target of the pool healthy, not
// long ago.
func carries(now time.Time, p Pool) bool {
	return p.Healthy > 0 && fresh(now, p.Read, carrierFresh)
}

func fresh(now, t time.Time, age time.Duration) bool {
	return !t.IsZero() && now.Sub(t) <= age
}

// The limit on planned changes of one route.
const (
	limitChanges = 6
	limitWindow  = time.Minute
)

func recent(now time.Time, changes []time.Time) []time.Time {
	var out []time.Time
	for _, t := range changes {
		if age := now.Sub(t); age >= 0 && age < limitWindow {
			out = append(out, t)
		}
	}
	return out
}
