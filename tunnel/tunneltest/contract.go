package tunneltest

import (
	"net/netip"
	"testing"

	"drawbridge/tunnel"
)

// Pair builds the devices of one contract test: two, and a third where
// AllowedIPs matter. All have to reach one another in the underlay.
type Pair struct {
	// New makes device i (0, 1 or 2) of the test t, not yet applied. The
	// contract closes it.
	New func(t *testing.T, i int) tunnel.Device
	// Underlay is the address at which the others reach device i.
	Underlay func(i int) netip.Addr
	// Port takes a UDP port on the host of device i that is free, and holds it
	// until release is called; release is called at least once.
	Port func(t *testing.T, i int) (port uint16, release func())
	// MTU, if not nil, is the MTU really in force at device i.
	MTU func(t *testing.T, i int) int
	// Path, if not nil, is the MTU in force at device i towards an overlay
	// address. Nil for a device without routes of the host's.
	Path func(t *testing.T, i int, dst netip.Addr) int
	// Behind, if not nil, gives host i a further address, outside the mesh, and
	// an echo service (TCP) there. Nil for a device with no host behind it.
	Behind func(t *testing.T, i int, at netip.Addr) netip.AddrPort
	// Left, if not nil, names what the closed device i left outside the process.
	Left func(t *testing.T, i int) string
}

// Contract checks that a backend fulfils [tunnel.Device] and [tunnel.Network].
// It takes some seconds, because it has to see that packets do not arrive.
func Contract(t *testing.T, p Pair) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, Pair)
	}{
		{"Traffic", traffic},
		{"Errors", networkErrors},
		{"ApplyTwice", applyTwice},
		{"UnknownPeer", unknownPeer},
		{"RemovedPeer", removedPeer},
		{"Roaming", roaming},
		{"Epoch", epoch},
		{"AllowedIPs", allowedIPs},
		{"Status", status},
		{"PortTaken", portTaken},
		{"MTU", mtu},
		{"IPv6", ipv6},
		{"SmallMTU", smallMTU},
		{"Routes", routes},
		{"PeerMTU", peerMTU},
		{"NeedsRestart", needsRestart},
		{"Close", closing},
	} {
		t.Run(part.name, func(t *testing.T) {
			alone(t)
			part.run(t, p)
		})
	}
}
