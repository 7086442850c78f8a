package verdict

import (
	"time"

	"drawbridge/discovery"
)

// Verdict is what we hold to be true of a site.
type Verdict string

// The verdicts. Undecided means keep.
const (
	Up        Verdict = "up"
	Dark      Verdict = "dark"
	Undecided Verdict = "undecided"
)

// Times that tell a colleague's death from our own isolation.
const (
	// GoneAfter: a gateway that gossip holds dead for so long has no voice.
	GoneAfter = 30 * time.Second
	// Together: a gateway and a site that fall silent within this time may
	// have lost nothing; it may be us who lost both.
	Together = 10 * time.Second
	// CloudAfter: only when a colleague is silent for so long, an answer of
	// the cloud's API counts as a sign that we are not isolated. It is a weak
	// witness: the API may be reached by a path that the overlay does not use.
	CloudAfter = 10 * time.Second
	// CloudFresh is how old such an answer may be.
	CloudFresh = 10 * time.Second
)

// Gateway is another observer of the site, as we find it.
type Gateway struct {
	ID    discovery.NodeID
	Heard time.Time // newest packet or proof; zero: never
	Left  bool
	Dead  time.Time // since when gossip says dead; zero: it does not
	// View is what it told us last of the site ("" never), and when.
	View discovery.ViewState
	Told time.Time
}

// Evidence is everything that the verdict on one site rests on.
type Evidence struct {
	Observer  bool // this node is a gateway
	Nodes     int  // known nodes of the site
	Own       discovery.ViewState
	Why       discovery.Reason // of Own
	Started   time.Time        // of the own prober
	LastProof time.Time        // of the site; zero: none since Started
	Gateways  []Gateway        // the other observers
	Witness   time.Time        // newest proof of any other member outside the site
	Cloud     time.Time        // newest good answer of the cloud that does not call a target of the site healthy
}

// Patience are the times of the verdict.
type Patience struct {
	AloneAfter time.Duration // silence of the site when ours is the only voice
	PeerSilent time.Duration // silence of a gateway until it counts as absent
	ViewFresh  time.Duration // age up to which a told view counts
}

// Of is the verdict on one site with its reason.
func Of(now time.Time, e Evidence, p Patience) (Verdict, discovery.Reason) {
	switch {
	case e.Nodes == 0:
		return Undecided, discovery.ReasonNoNodes
	case !e.Observer:
		return Undecided, discovery.ReasonNotObserver
	case e.Own == discovery.ViewLit || anyLit(now, e.Gateways, p):
		return Up, discovery.ReasonProof
	case e.Own != discovery.ViewDark:
		return Undecided, e.Why
	}
	c := count(now, e, p)
	silent := now.Sub(later(e.LastProof, e.Started))
	switch {
	case c.stale > 0:
		return Undecided, discovery.ReasonDisagree
	case c.doubtful > 0 && !witnessed(now, e, p, c.silence):
		return Undecided, discovery.ReasonIsolated
	case (c.dark == 0 || c.doubtful > 0) && silent < p.AloneAfter:
		return Undecided, discovery.ReasonAlone
	case c.dark == 0:
		return Dark, discovery.ReasonAloneDark
	}
	return Dark, discovery.ReasonAllDark
}

func anyLit(now time.Time, gs []Gateway, p Patience) bool {
	for _, g := range gs {
		if !g.Left && g.View == discovery.ViewLit && fresh(now, g.Told, p.ViewFresh) {
			return true
		}
	}
	return false
}

// tally counts the other observers by what they contribute.
type tally struct {
	dark     int           // fresh and dark
	stale    int           // there, but we do not know what they see
	doubtful int           // silent together with the site: dead, or are we cut off?
	silence  time.Duration // the shortest silence of the doubtful
}

func count(now time.Time, e Evidence, p Patience) tally {
	var t tally
	for _, g := range e.Gateways {
		switch {
		case g.Left:
		case fresh(now, g.Heard, p.PeerSilent):
			switch {
			case !fresh(now, g.Told, p.ViewFresh):
				t.stale++
			case g.View == discovery.ViewDark:
				t.dark++
			} // fresh and blind: no vote
		case !g.Dead.IsZero() && now.Sub(g.Dead) >= GoneAfter:
		case later(e.LastProof, e.Started).Sub(later(g.Heard, e.Started)) >= Together: // gone long before
		default:
			s := now.Sub(later(g.Heard, e.Started))
			if t.doubtful == 0 || s < t.silence {
				t.silence = s
			}
			t.doubtful++
		}
	}
	return t
}

// witnessed reports whether something independent says that we are not cut
// off: another member that answers us, or, after a longer while, the cloud.
func witnessed(now time.Time, e Evidence, p Patience, silence time.Duration) bool {
	return fresh(now, e.Witness, p.PeerSilent) || silence >= CloudAfter && fresh(now, e.Cloud, CloudFresh)
}

func fresh(now, t time.Time, age time.Duration) bool {
	return !t.IsZero() && now.Sub(t) <= age
}
