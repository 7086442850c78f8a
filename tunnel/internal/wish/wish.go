package wish

import (
	"fmt"
	"net/netip"
	"slices"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/uapi"
)

// Take is a checked, normalized copy of c that shares no slices with it, with
// the default MTU filled in.
func Take(c tunnel.Config) (tunnel.Config, error) {
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		c.Peers[i].AllowedIPs = slices.Clone(c.Peers[i].AllowedIPs)
	}
	c.Routes = slices.Clone(c.Routes)
	if c.MTU == 0 {
		c.MTU = tunnel.DefaultMTU
	}
	c.Normalize()
	return c, uapi.Check(&c)
}

// Fits reports, wrapping [tunnel.ErrNeedsRestart], a change from last to next
// that a living device cannot make: the own addresses and the mesh prefixes,
// which sockets and routes hang on. A nil last fits everything.
func Fits(last *tunnel.Config, next tunnel.Config) error {
	if last == nil || next.Addr == last.Addr && next.Mesh == last.Mesh && next.Addr6 == last.Addr6 && next.Mesh6 == last.Mesh6 {
		return nil
	}
	return fmt.Errorf("overlay address %v %v in %v %v instead of %v %v in %v %v: %w", next.Addr, next.Addr6, next.Mesh, next.Mesh6,
		last.Addr, last.Addr6, last.Mesh, last.Mesh6, tunnel.ErrNeedsRestart)
}

// MinMTU6 is the least MTU that can carry IPv6 (RFC 8200, section 5).
const MinMTU6 = 1280

// Six takes the IPv6 addresses off a wish whose MTU cannot carry them, and says
// whether it did.
func Six(c *tunnel.Config) (taken bool) {
	if c.MTU >= MinMTU6 || !c.Addr6.IsValid() {
		return false
	}
	c.Addr6, c.Mesh6 = netip.Addr{}, netip.Prefix{}
	return true
}
