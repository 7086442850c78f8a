package decide

import (
	"strings"
	"time"
)

const (
	// Certificates are backdated five minutes; a larger difference between
	// clocks makes a fresh one look not yet valid.
	skewWarn  = 30 * time.Second
	skewError = 5 * time.Minute
)

// healthClock names a wrong clock. WireGuard refuses handshakes that are dated
// before the last one it took (whitepaper, section 5.4.2), so a clock that was
// set back keeps a node out for as long as it was set back.
func (c *scene) healthClock() {
	t := &c.s.Trust
	skew, word := t.Skew, "ahead of"
	if skew < 0 {
		skew, word = -skew, "behind"
	}
	if t.SkewWith == "" || skew < skewWarn {
		return
	}
	sev, more := Warning, ""
	if skew >= skewError {
		sev, more = Broken, ": certificates seem not valid to one of the two"
		if t.Skew < 0 {
			more = ": gateways refuse WireGuard handshakes dated before the last one they took"
		}
	}
	c.report("clock-skew", sev, name(c.s.Self.ID, c.s.Self.Name), "set the clock that is wrong (timedatectl set-ntp true), then restart the agent",
		"this host's clock is %s %s that of %s%s", skew.Round(time.Second), word, t.SkewWith, more)
}

// healthSetBack names WireGuard's trap when silent gateways may be in it: a
// clock that was ahead when they took this node's handshake, and was put right
// since. That they took one is not known here, so it does not say so.
func (c *scene) healthSetBack(silent []string, all bool) {
	t := &c.s.Trust
	if t.ClockWas.Sub(c.now) < skewWarn || len(silent) == 0 {
		return
	}
	if t.SkewWith != "" && t.Skew <= -skewWarn {
		return // a clock that is behind is to be set: see clock-skew
	}
	sev := Warning
	if all {
		sev = Broken
	}
	me := name(c.s.Self.ID, c.s.Self.Name)
	c.report("clock-set-back", sev, me,
		"on a gateway: drawbridge quarantine "+me+", some seconds later drawbridge release "+me+": all forget the handshake; or wait until then",
		"this host's clock showed %s and was set back since; no answer from %s: a gateway that took a WireGuard handshake dated so late refuses this host's until then",
		minute(t.ClockWas.Add(time.Minute)), strings.Join(silent, ", "))
}

// healthNotYet tells that the own certificate begins in the future. One of two
// clocks is wrong; nothing is cut, since whoever knows this node keeps it.
func (c *scene) healthNotYet() {
	c.report("certificate-not-yet-valid", Broken, name(c.s.Self.ID, c.s.Self.Name),
		"set the clock that is wrong (timedatectl set-ntp true), then restart the agent",
		"this host's clock shows %s and its certificate begins on %s: the clock is behind, or that of the gateway which certified was ahead; traffic goes on, but nothing is renewed",
		minute(c.now), minute(c.s.Trust.Begins))
}
