package link

import "log/slog"

// Teller says in the log what [Set] left out, once for each change of it.
type Teller struct {
	Log  *slog.Logger
	last Outcome
}

// Tell logs what is new in o. No IPv6 is no fault: the overlay works without.
func (t *Teller) Tell(o Outcome) {
	if o.NoIPv6 != "" && o.NoIPv6 != t.last.NoIPv6 {
		t.Log.Debug("overlay is IPv4 only", "reason", o.NoIPv6)
	}
	known := map[string]bool{}
	for _, l := range t.last.Left {
		known[l] = true
	}
	for _, l := range o.Left {
		if !known[l] {
			t.Log.Warn("route left out", "reason", l)
		}
	}
	t.last = o
}
