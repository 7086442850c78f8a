package uapi

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"drawbridge/tunnel"
)

// MaxKeepalive is the longest keepalive that the protocol can say: 16 bits of
// seconds.
const MaxKeepalive = 65535 * time.Second

// Check refuses a wish that a device would accept and then not keep: an
// address at two peers, a peer named twice, this node among its own peers, or
// a keepalive that is no whole number of seconds.
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
	// The least MTU an IPv4 link may have (RFC 791), and what fits into the
	// largest UDP datagram with WireGuard's 32 bytes.
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65475) {
		return fmt.Errorf("check config: MTU %d is not between 576 and 65475", c.MTU)
	}
	self, err := c.PrivateKey.Public()
	if err != nil {
		return err
	}
	return checkPeers(self, c.Peers)
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
