package conflict

import (
	"net/netip"

	"drawbridge/tunnel"
)

// Wish is what the overlay wants to do on this host.
type Wish struct {
	Interface string // the overlay's; "" where it has none, and no firewall matters
	Mesh      netip.Prefix
	Self      netip.Addr
	Control   []uint16 // ports, UDP and TCP, open to members
	Services  []uint16 // TCP
	Port      uint16   // WireGuard's, UDP, and enrolment's, TCP
	Dialled   bool     // others dial that port
	Forward   bool     // from the underlay into the mesh, and between members
	Subnets   []netip.Prefix
}

// maxRoutes bounds what is told of routes.
const maxRoutes = 1024

// carriers is what tailscaled keeps for itself (RFC 6598).
var carriers = netip.MustParsePrefix("100.64.0.0/10")

func conflictOf(kind tunnel.ConflictKind, subject, what, by string) tunnel.Conflict {
	return tunnel.Conflict{Kind: kind, Subject: subject, What: what, By: by}
}
