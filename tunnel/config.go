package tunnel

import (
	"net/netip"
	"slices"
	"time"
)

// DefaultMTU is the overlay MTU unless the operator knows better: 1280, the
// least that IPv6 guarantees (RFC 8200, section 5), passes every path known to
// us, PPPoE and nested tunnels included.
const DefaultMTU = 1280

// Config is the whole wish for a WireGuard device. Peers are sorted by key;
// [Config.Normalize] does that.
type Config struct {
	PrivateKey PrivateKey
	ListenPort uint16       // UDP, underlay; 0 lets the system choose
	Addr       netip.Addr   // own overlay address
	Mesh       netip.Prefix // the mesh prefix, routed to the device
	// Addr6 and Mesh6 are the same in IPv6, see [Mesh6]. Both invalid: the
	// overlay is IPv4 only.
	Addr6 netip.Addr
	Mesh6 netip.Prefix
	// Routes are prefixes outside the mesh that lie behind peers (subnets
	// that servers advertise), routed to the device too. Sorted.
	Routes []netip.Prefix
	MTU    int // of the device, bytes; 0 means DefaultMTU
	Peers  []Peer
}

// Peer is the wish for one WireGuard peer.
type Peer struct {
	Key Key
	// Endpoint is where to dial. The zero value means: wait until the peer
	// dials, or keep the address it was last heard from. A device sets the
	// endpoint only when the wish changes, so that a roaming peer keeps the
	// address the device learned.
	Endpoint netip.AddrPort
	// AllowedIPs are the overlay addresses this peer may use. No prefix may
	// stand at two peers (WireGuard would silently take it from the first).
	AllowedIPs []netip.Prefix
	// Keepalive keeps a NAT mapping open; 0 is off. Whole seconds, to 65535.
	Keepalive time.Duration
	// Epoch forces a new handshake when it changes: the device removes the
	// peer and adds it again, which also clears WireGuard's 5 s limit between
	// handshake initiations.
	Epoch uint64
	// MTU is the largest overlay packet that reaches the peer, in bytes; 0
	// means the device's, and more than that never happens. A device that has
	// routes gives it to those of the peer's AllowedIPs.
	MTU int
}

// Normalize sorts peers by key and their prefixes, in place, and returns c.
func (c *Config) Normalize() *Config {
	for i := range c.Peers {
		slices.SortFunc(c.Peers[i].AllowedIPs, ComparePrefix)
	}
	slices.SortFunc(c.Routes, ComparePrefix)
	slices.SortFunc(c.Peers, func(a, b Peer) int { return a.Key.Compare(b.Key) })
	return c
}

// Equal reports whether two wishes are the same. Both must be normalized.
func (c *Config) Equal(o *Config) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.PrivateKey.Equal(o.PrivateKey) && c.ListenPort == o.ListenPort && c.Addr == o.Addr &&
		c.Mesh == o.Mesh && c.Addr6 == o.Addr6 && c.Mesh6 == o.Mesh6 && slices.Equal(c.Routes, o.Routes) &&
		c.MTU == o.MTU && slices.EqualFunc(c.Peers, o.Peers, Peer.Equal)
}

// Equal reports whether two peers are the same wish.
func (p Peer) Equal(o Peer) bool {
	return p.Key == o.Key && p.Endpoint == o.Endpoint && p.Keepalive == o.Keepalive &&
		p.Epoch == o.Epoch && p.MTU == o.MTU && slices.Equal(p.AllowedIPs, o.AllowedIPs)
}

// ComparePrefix orders prefixes by address, then by length.
func ComparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
