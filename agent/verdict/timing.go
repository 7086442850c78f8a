package verdict

import "time"

// MaxProbed is how many nodes of a site a gateway probes. More would add load
// and no certainty: at 16 nodes the chance that loss alone silences all of
// them for a second is far below one in a human life.
const MaxProbed = 16

// Pace is how fast a site is probed and how long its silence is borne.
type Pace struct {
	Pulse     time.Duration // between pulses to a node
	EchoAfter time.Duration // silence of all nodes until echo bursts
	DarkAfter time.Duration // silence of all nodes until the own view is dark
}

// PaceFor is the pace for a site with k probed nodes. The fewer nodes can give
// proof, the faster they are asked, and a lone node gets a little longer, so
// that independent loss of up to half of all packets makes less than one false
// darkness in ten years.
func PaceFor(k int) Pace {
	switch {
	case k == 1:
		return Pace{Pulse: 50 * time.Millisecond, EchoAfter: 500 * time.Millisecond, DarkAfter: 1200 * time.Millisecond}
	case k < 5:
		return Pace{Pulse: 100 * time.Millisecond, EchoAfter: 400 * time.Millisecond, DarkAfter: time.Second}
	default:
		return Pace{Pulse: 200 * time.Millisecond, EchoAfter: 400 * time.Millisecond, DarkAfter: time.Second}
	}
}
