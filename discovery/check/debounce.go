package check

import "drawbridge/discovery"

// debounce turns single results into a state. The zero value is undecided.
type debounce struct {
	state discovery.CheckState // "" means unknown
	run   int                  // equal results in a row, counted up to the threshold
	pass  bool                 // what the run is of
}

// next takes in one result. From unknown, one pass is enough to be passing, so
// that a restarted agent serves soon; failing always takes fall failures, so
// that a service which starts along with the agent is not condemned.
func (d debounce) next(pass bool, rise, fall int) debounce {
	if pass != d.pass {
		d.run = 0
	}
	d.pass = pass
	limit := max(fall, 1)
	if pass {
		limit = max(rise, 1)
	}
	d.run = min(d.run+1, limit)
	switch {
	case pass && (d.run == limit || d.State() == discovery.CheckUnknown):
		d.state = discovery.CheckPassing
	case !pass && d.run == limit:
		d.state = discovery.CheckFailing
	}
	return d
}

// State is the decided state.
func (d debounce) State() discovery.CheckState {
	if d.state == "" {
		return discovery.CheckUnknown
	}
	return d.state
}
