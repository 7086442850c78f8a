package discovery

import (
	"net/netip"
	"slices"
	"time"
)

// Observation is this node's own measurement of another: the time of the
// newest own pulse that the other has echoed. Two-way by construction.
type Observation struct {
	Node  NodeID
	Proof time.Time     // zero: none since the prober started
	Heard time.Time     // last valid packet from the node, either direction proven or not
	RTT   time.Duration // of the newest proof; 0 unknown
	// Seen is the underlay address that the node says it hears us from; zero
	// unknown. Only a gateway's word is of use.
	Seen netip.AddrPort
	// Size is the overlay packet, in bytes with its IP header, that is being
	// tried on the way to the node (ProbePeer.Size); 0: none. The three
	// fields after it are of this size and of this attempt. All stay 0 while the
	// node is too old to tell.
	Size      int
	SizeAt    time.Time // when the node last said that one arrived whole
	SizeWhole int       // in a row that did; at most 255
	SizeLost  int       // in a row that the node did not tell of within a second; at most 255
	// Forks is how often within the last minute an earlier life of the node
	// spoke again after a later one: a restart never goes back, so two processes
	// share its identity. At most 16.
	Forks  int
	Forked time.Time // the newest of those, also when it is longer ago; zero: never
}

// Sight is everything the own prober saw, with what it must confess: when it
// started, and when its own process last stood still.
type Sight struct {
	Started      time.Time     // of the prober
	At           time.Time     // of this report
	Paused       time.Time     // end of the last gap of its own loop over the pause guard; zero: none
	SendErr      string        // last send error, "" when sending works
	SendErrSince time.Time     //
	Observations []Observation // sorted by node
}

// ViewState is what one observer holds of one site, from its own observations.
type ViewState string

// The views. Blind: starting, paused or isolated; a blind observer has no vote.
const (
	ViewLit   ViewState = "lit"
	ViewDark  ViewState = "dark"
	ViewBlind ViewState = "blind"
)

// View is one gateway's view of one site.
type View struct {
	Observer NodeID
	Site     string
	State    ViewState
	// LastProof is how old the newest proof of any node of the site was when
	// the view was told. Negative: there never was one.
	LastProof time.Duration
	Heard     time.Time // when we heard it (or made it, for our own), by our clock
}

// ProbePeer is a node to exchange pulses with.
type ProbePeer struct {
	Node NodeID
	Addr netip.Addr // overlay
	Site string
	// Group is the site as the unit of echo bursts on a gateway: when no node
	// of the group gave proof for EchoAfter, all of it is asked. Empty: none.
	Group string
	// Tell asks that own views be told to this peer (other gateways).
	Tell bool
	// Every is the time between pulses to this peer; 0: as the wish says.
	Every time.Duration
	// Quiet: the peer is not pulsed. Its own pulses are answered, at most once a
	// second, so that it has proof of us; what it echoes is proof of it. For the
	// many servers beyond those that prove a site.
	Quiet bool
	// Seen is the underlay address that the peer is heard from, to be told to
	// it; zero: nothing is told.
	Seen netip.AddrPort
	// Size asks that the peer be sent, beside the pulses, packets filled up to
	// so many bytes, IP header included, that may not be cut in pieces: one a
	// second, and up to five while they arrive. 576 to 9216; 0: none.
	Size int
}

// ProbeWish is the whole wish for the prober.
type ProbeWish struct {
	Interval  time.Duration // between pulses to a peer
	EchoAfter time.Duration // silence of a whole group until echo bursts
	// OnDemand sends pulses only at IdleInterval to a peer that has not pulsed
	// us within 5 s: what servers do, so that a thousand of them cost a
	// gateway little.
	OnDemand     bool
	IdleInterval time.Duration
	Peers        []ProbePeer // sorted by node
	Views        []View      // own views, told to peers with Tell; sorted by site
}

// Equal reports whether two wishes are the same.
func (w *ProbeWish) Equal(o *ProbeWish) bool {
	if w == nil || o == nil {
		return w == o
	}
	return w.Interval == o.Interval && w.EchoAfter == o.EchoAfter && w.OnDemand == o.OnDemand &&
		w.IdleInterval == o.IdleInterval && slices.Equal(w.Views, o.Views) && slices.Equal(w.Peers, o.Peers)
}
