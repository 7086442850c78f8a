package discovery

import (
	"net/netip"
	"time"
)

// Trust is what a node knows of its own standing in the mesh, and of nodes that
// are no longer members in good standing.
type Trust struct {
	Apart []Apart // in quarantine, sorted by node
	Gone  []Gone  // revoked lately, sorted by node

	Revoked    string        // this node itself was revoked: the reason; "" it was not
	Begins     time.Time     // the own certificate is valid from then on; zero: not known
	Life       time.Duration // of the own certificate; 0: not known
	RenewErr   string        // why the last renewal failed; "": it did not
	RenewSince time.Time     // first of the failed renewals since the last good one
	IssuerEnds time.Time     // end of a gateway's issuing certificate; zero: none

	Skew     time.Duration // own clock minus a gateway's
	SkewWith string        // the gateway's name; "": never compared
	SkewAt   time.Time     // of the comparison
	ClockWas time.Time     // the latest that the own clock has shown, if it was set back since; zero: it was not

	Behind []string // nodes that do not yet trust the newest roots, sorted by name
}

// Apart is a node in quarantine: nobody speaks to it until it is released.
type Apart struct {
	Node   NodeID
	Name   string
	Reason string
	By     string // the gateway that said so
	Since  time.Time
}

// Gone is a node that was revoked. It is no member any more, but its site has
// lost it all the same.
type Gone struct {
	Node NodeID
	Addr netip.Addr
	Site string
	Role Role
	At   time.Time
}
