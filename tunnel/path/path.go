package path

import (
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// Keepalive keeps a NAT mapping open: WireGuard's own advice, and below the
// 30 s that common routers keep an idle UDP mapping.
const Keepalive = 25 * time.Second

// Node is a member as the path needs it.
type Node struct {
	ID       discovery.NodeID
	Role     discovery.Role
	Key      tunnel.Key
	Addr     netip.Addr     // overlay
	Endpoint netip.AddrPort // where to dial, see Endpoint; zero: it dials
	Living   bool           // gateways: gives proof
	Draining bool
	Epoch    uint64
	// Subnets are the networks reached through the node; none is at two nodes.
	Subnets []netip.Prefix
}

// usable: a peer can be made of it.
func (n Node) usable() bool { return n.Addr.IsValid() && !n.Key.IsZero() }

// Self is the own part of the path.
type Self struct {
	ID       discovery.NodeID
	Role     discovery.Role
	Addr     netip.Addr
	Dialable bool // others can dial this node: it has endpoints of its own
}

// Peers are the peers of self among nodes, which are sorted by ID and do not
// include self. The result is sorted by key and never nil. A node whose key or
// address another node (with a lower ID) has too gets no peer.
func Peers(self Self, nodes []Node) []tunnel.Peer {
	owners := exclusive(self, nodes)
	prefixes := make([]netip.Prefix, len(nodes))
	relay := -1
	if self.Role != discovery.RoleGateway {
		relay = relayOf(nodes, owners)
	}
	peers := make([]tunnel.Peer, 0, len(nodes))
	at, relayed := -1, 0
	for i, n := range nodes {
		prefixes[i] = netip.PrefixFrom(n.Addr, n.Addr.BitLen())
		switch {
		case !owners[i]:
		case self.Role == discovery.RoleGateway || n.Role == discovery.RoleGateway:
			if i == relay {
				at = len(peers)
			}
			peers = append(peers, peer(self, n, append(prefixes[i:i+1:i+1], n.Subnets...)))
		default:
			relayed++
		}
	}
	if at >= 0 && relayed > 0 {
		peers[at].AllowedIPs = behind(nodes, owners, prefixes, relay, relayed)
	}
	slices.SortFunc(peers, func(a, b tunnel.Peer) int { return a.Key.Compare(b.Key) })
	return peers
}

func peer(self Self, n Node, allowed []netip.Prefix) tunnel.Peer {
	p := tunnel.Peer{Key: n.Key, Endpoint: n.Endpoint, AllowedIPs: allowed, Epoch: n.Epoch}
	if n.Role == discovery.RoleGateway && !self.Dialable {
		p.Keepalive = Keepalive
	}
	return p
}

// behind are the addresses reached through the relay: its own and those of all
// servers, sorted.
func behind(nodes []Node, owners []bool, prefixes []netip.Prefix, relay, count int) []netip.Prefix {
	out := make([]netip.Prefix, 0, count+1)
	for i, n := range nodes {
		if owners[i] && (i == relay || n.Role != discovery.RoleGateway) {
			out = append(out, prefixes[i])
		}
	}
	slices.SortFunc(out, tunnel.ComparePrefix)
	return out
}

// relayOf is the index of the gateway through which servers reach each other:
// the lowest living one that stays, else the lowest living, else the lowest
// known; -1 without gateways. nodes are sorted by ID.
func relayOf(nodes []Node, owners []bool) int {
	best, rank := -1, 3
	for i, n := range nodes {
		if n.Role != discovery.RoleGateway || !owners[i] {
			continue
		}
		r := 2
		if n.Living {
			r = 1
			if !n.Draining {
				r = 0
			}
		}
		if r < rank {
			best, rank = i, r
		}
	}
	return best
}
