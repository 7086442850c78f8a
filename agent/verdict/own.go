package verdict

import (
	"time"

	"drawbridge/discovery"
)

// reportFresh is how old the prober's own report may be: an older one means
// that the process, or the prober in it, stands still.
const reportFresh = time.Second

// Seen is what the own prober knows of one site, with what it must confess.
type Seen struct {
	LastProof time.Time // newest proof of any node; zero: none since Started
	Known     time.Time // when the site was first known here
	Started   time.Time // of the prober; zero: no report yet
	At        time.Time // of its report
	Paused    time.Time // end of the last gap of its loop; zero: none
	SendErr   time.Time // since when sending fails; zero: it works
	// Steady: since Started and Known, the site was once lit for SteadyAfter
	// without a break.
	Steady bool
}

// SteadyAfter is how long a site must be lit after a start before its silence
// counts at once. Two WireGuard peers that start together can answer each
// other's first handshake and lose both; the next attempt comes after
// REKEY_TIMEOUT, 5 s, and up to a third of a second of jitter (WireGuard
// paper, section 6.4).
const SteadyAfter = 6 * time.Second

// Own is this observer's view of a site. The reason is set for lit and for
// blind; dark needs none.
func Own(now time.Time, s Seen, darkAfter, grace time.Duration) (discovery.ViewState, discovery.Reason) {
	proven := !s.LastProof.IsZero()
	if proven && now.Sub(s.LastProof) <= darkAfter {
		return discovery.ViewLit, discovery.ReasonProof
	}
	if s.Started.IsZero() {
		return discovery.ViewBlind, discovery.ReasonStarting
	}
	if now.Sub(s.At) > reportFresh {
		return discovery.ViewBlind, discovery.ReasonPaused
	}
	if stoodStill(now, s, darkAfter) {
		return discovery.ViewBlind, discovery.ReasonPaused
	}
	// Half of darkAfter, so that a failing socket never looks dark before it
	// looks blind; a second at most, so that one lost send blinds nobody.
	if !s.SendErr.IsZero() && now.Sub(s.SendErr) >= min(time.Second, darkAfter/2) {
		return discovery.ViewBlind, discovery.ReasonSendErrors
	}
	if !s.Steady && now.Before(later(s.Started, s.Known).Add(grace)) {
		return discovery.ViewBlind, discovery.ReasonStarting
	}
	return discovery.ViewDark, ""
}

// stoodStill: a pause makes silence meaningless until there was time enough to
// hear again.
func stoodStill(now time.Time, s Seen, darkAfter time.Duration) bool {
	return !s.Paused.IsZero() && now.Sub(s.Paused) < darkAfter && !s.LastProof.After(s.Paused)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
