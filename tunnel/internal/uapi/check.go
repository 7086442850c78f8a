package uapi

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"drawbridge/tunnel"
)

const (
	// MaxKeepalive is the longest keepalive that WireGuard can say: 16 bits of
	// seconds.
	MaxKeepalive = 65535 * time.Second
	// minMTU is the least that an IPv4 link may have (RFC 791), maxMTU what
	// fits into the largest UDP datagram with WireGuard's 32 bytes.
	minMTU, maxMTU = 576, 65475
)

// Check refuses a wish that a device would accept and then not keep: an
// address at two peers, a peer named twice, this node among its own peers, a
// keepalive that is no whole number of seconds, or addresses that contradict
// one another.
func Check(c *tunnel.Config) error {
	if c.PrivateKey.IsZero() {
		return errors.New("check config: no private key")
	}
	if !c.Addr.Is4() {
		return fmt.Errorf("check config: overlay address %v is not IPv4", c.Addr)
	}
	if !c.Mesh.IsValid() || !c.Mesh.Contains(c.Addr) {
		return fmt.Errorf("check config: overlay address %v is outside the mesh prefix %v", c.Addr, c.Mesh)
	}
	if c.Addr6.IsValid() != c.Mesh6.IsValid() || c.Addr6.IsValid() && (!c.Addr6.Is6() || c.Addr6.Is4In6() || !c.Mesh6.Contains(c.Addr6)) {
		return fmt.Errorf("check config: overlay address %v is not in the IPv6 mesh prefix %v", c.Addr6, c.Mesh6)
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		return fmt.Errorf("check config: MTU %d is not between %d and %d", c.MTU, minMTU, maxMTU)
	}
	for _, r := range c.Routes {
		if err := checkRoute(c, r); err != nil {
			return err
		}
	}
	self, err := c.PrivateKey.Public()
	if err != nil {
		return err
	}
	return checkPeers(self, c.Peers)
}

// checkRoute: a route beside the mesh is a network, and never as wide as what
// VPN clients write for a default route.
func checkRoute(c *tunnel.Config, r netip.Prefix) error {
	switch {
	case !r.IsValid() || r != r.Masked():
		return fmt.Errorf("check config: route %v is not a network prefix", r)
	case r.Bits() <= 1:
		return fmt.Errorf("check config: route %v is a default route", r)
	case r.Overlaps(c.Mesh) || c.Mesh6.IsValid() && r.Overlaps(c.Mesh6):
		return fmt.Errorf("check config: route %v overlaps the mesh prefix", r)
	}
	return nil
}

func checkPeers(self tunnel.Key, peers []tunnel.Peer) error {
	seen := make(map[tunnel.Key]bool, len(peers))
	owner := make(map[netip.Prefix]tunnel.Key, len(peers))
	for _, p := range peers {
		switch {
		case p.Key.IsZero():
			return errors.New("check config: a peer has no key")
		case p.Key == self:
			return fmt.Errorf("check config: peer %v is this node itself", p.Key)
		case seen[p.Key]:
			return fmt.Errorf("check config: peer %v stands twice", p.Key)
		case p.Keepalive < 0 || p.Keepalive > MaxKeepalive || p.Keepalive%time.Second != 0:
			return fmt.Errorf("check config: peer %v: keepalive %v is not whole seconds up to 65535", p.Key, p.Keepalive)
		case p.MTU != 0 && (p.MTU < minMTU || p.MTU > maxMTU):
			return fmt.Errorf("check config: peer %v: MTU %d is not between %d and %d", p.Key, p.MTU, minMTU, maxMTU)
		}
		seen[p.Key] = true
		for _, a := range p.AllowedIPs {
			if !a.IsValid() || a != a.Masked() {
				return fmt.Errorf("check config: peer %v: %v is not a network prefix", p.Key, a)
			}
			if o, ok := owner[a]; ok {
				return fmt.Errorf("check config: %v stands at two peers, %v and %v", a, o, p.Key)
			}
			owner[a] = p.Key
		}
	}
	return nil
}
