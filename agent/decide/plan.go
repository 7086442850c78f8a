package decide

import (
	"fmt"
	"net/netip"
	"time"

	"drawbridge/agent/verdict"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// Plan is the whole wish for every hand, with the reasons. A nil part means
// keep what is there.
type Plan struct {
	Snapshot uint64 // the version it was computed from

	Leader       discovery.NodeID // who should write to AWS; "" nobody
	LeaderReason discovery.Reason
	Sites        []SiteStatus  // sorted by site; remote sites only
	Routes       []RouteStatus // sorted by route

	Peers    []tunnel.Peer    // nil: keep
	Behind   []netip.Prefix   // networks behind peers, led to the device; sorted; nil: keep
	Filter   *tunnel.Filter   // nil: keep
	Forwards []tunnel.Forward // netstack only; nil: keep
	Direct   []netip.Addr     // neighbours to announce, sorted; nil: keep
	Streams  []tunnel.Stream  // sorted by key; nil: keep
	MTU      int              // of the device; 0: keep
	Paths    []PathStatus     // of the peers, sorted by node

	Probe *discovery.ProbeWish // nil: keep
	Cloud *discovery.CloudWish // nil: keep; every gateway computes it, the leader writes

	Health []Health // worst first
}

// Verdict is what we hold to be true of a site.
type Verdict = verdict.Verdict

// The verdicts. Undecided means keep.
const (
	Up        = verdict.Up
	Dark      = verdict.Dark
	Undecided = verdict.Undecided
)

// SiteStatus is a site with its verdict and evidence.
type SiteStatus struct {
	Site     string
	Verdict  Verdict
	Reason   discovery.Reason
	Since    time.Time        // of the verdict
	Nodes    int              // known nodes
	Proven   int              // nodes with proof within DarkAfter, as this node sees it
	Own      discovery.View   // as told to others
	Views    []discovery.View // of the other gateways, sorted by observer
	LastSeen time.Time        // newest proof of any node; zero: never
}

// RouteStatus is a route with every weight and its reason.
type RouteStatus struct {
	Route string
	State string // normal | dark | waiting | ramp | keep
	Pools []PoolStatus
	// Until is when the present wait or ramp step ends; zero: nothing waits.
	Until time.Time
}

// PathStatus is how large packets to a peer may be.
type PathStatus struct {
	Node      discovery.NodeID
	MTU       int       // in force, bytes with the IP header
	Measured  bool      // confirmed by the peer; otherwise assumed
	At        time.Time // when it was confirmed last
	Searching bool      // larger or smaller ones are being tried
	Hole      time.Time // when packets of Was bytes began to be swallowed; zero: they are not
	Was       int
}

// State says in one word where the size comes from: measured, assumed, or
// searching when it is assumed and others are being tried.
func (s PathStatus) State() string {
	switch {
	case s.Measured:
		return "measured"
	case s.Searching:
		return "searching"
	}
	return "assumed"
}

// String is the size with where it comes from, as people read it.
func (s PathStatus) String() string {
	how := s.State()
	if s.Measured && s.Searching {
		how += ", larger ones are tried"
	}
	if !s.Hole.IsZero() {
		how += fmt.Sprintf(", %d swallowed since %s", s.Was, clock(s.Hole))
	}
	return fmt.Sprintf("%d bytes (%s)", s.MTU, how)
}

// PoolStatus is one pool: what ELB has, what we want, what is normal.
type PoolStatus struct {
	Pool       string
	Site       string
	Now        int // weight in ELB; -1 unknown
	Goal       int // weight wanted now; -1 keep
	Normal     int
	Healthy    int // by ELB; -1 unknown
	Registered int // by ELB; -1 unknown
	Reason     discovery.Reason
}

// Severity orders health entries.
type Severity string

// The severities, worst first.
const (
	Broken  Severity = "error"   // a promise is broken, a person should look
	Warning Severity = "warning" // state is kept, we are retrying
	Note    Severity = "info"
)

// Health is one finding: code, text and the next step in one line.
type Health struct {
	Code     string // stable, kebab-case
	Severity Severity
	Subject  string // node, site, route, target group
	Text     string
	Next     string
}
