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
	Site     string
	Key      tunnel.Key
	Addr     netip.Addr     // overlay
	Endpoint netip.AddrPort // where to dial, see Endpoint; zero: it dials
	Living   bool           // gateways: gives proof
	Draining bool           // wants no new work, or is too young for it
	Epoch    uint64
	// Subnets are the networks reached through the node; none is at two nodes.
	Subnets []netip.Prefix
	// Of its record; see discovery.Announcement.
	Seen   []netip.AddrPort
	Local  []netip.AddrPort
	Direct []netip.Addr
	// Try makes a server a peer without overlay addresses, beside the relay, to
	// find out whether it can be reached; Keepalive holds it, 0: it dials.
	Try       bool
	Keepalive time.Duration
}

// usable: a peer can be made of it.
func (n *Node) usable() bool { return n.Addr.IsValid() && !n.Key.IsZero() }

// Self is the own part of the path.
type Self struct {
	ID       discovery.NodeID
	Role     discovery.Role
	Site     string
	Addr     netip.Addr
	Dialable bool // others can dial this node: it has endpoints of its own
	// Of the own record.
	Seen   []netip.AddrPort
	Local  []netip.AddrPort
	Direct []netip.Addr
}

// appendPrefixes appends the overlay addresses that are n's own. Whoever
// carries n's packets, itself or a relay, is allowed exactly these.
func appendPrefixes(out []netip.Prefix, n *Node) []netip.Prefix {
	return append(append(out, netip.PrefixFrom(n.Addr, n.Addr.BitLen())), n.Subnets...)
}

// Peers are the peers of self among nodes, which are sorted by ID and do not
// include self. The result is sorted by key and never nil. A node whose key or
// address another node (with a lower ID) has too gets no peer.
func Peers(self Self, nodes []Node) []tunnel.Peer {
	owners := exclusive(self, nodes)
	relay := -1
	if self.Role != discovery.RoleGateway {
		relay = relayOf(nodes, owners)
	}
	peers := make([]tunnel.Peer, 0, len(nodes))
	prefixes := make([]netip.Prefix, 0, len(nodes)) // of all peers, one after the other
	var relayed []int
	at := -1
	for i := range nodes {
		n := &nodes[i]
		if !owners[i] {
			continue
		}
		from := len(prefixes)
		switch {
		case self.Role == discovery.RoleGateway || n.Role == discovery.RoleGateway:
			if i == relay {
				at = len(peers)
			}
			prefixes = appendPrefixes(prefixes, n)
		case Mutual(&self, n):
			prefixes = appendPrefixes(prefixes, n)
		default:
			relayed = append(relayed, i)
			if !n.Try {
				continue
			}
		}
		peers = append(peers, peer(&self, n, prefixes[from:len(prefixes):len(prefixes)]))
	}
	if at >= 0 && len(relayed) > 0 {
		peers[at].AllowedIPs = behind(nodes, relay, relayed)
	}
	slices.SortFunc(peers, func(a, b tunnel.Peer) int { return a.Key.Compare(b.Key) })
	return peers
}

func peer(self *Self, n *Node, allowed []netip.Prefix) tunnel.Peer {
	p := tunnel.Peer{Key: n.Key, Endpoint: n.Endpoint, AllowedIPs: allowed, Epoch: n.Epoch, Keepalive: n.Keepalive}
	if n.Role == discovery.RoleGateway && !self.Dialable {
		p.Keepalive = Keepalive
	}
	return p
}

// behind are the addresses reached through the relay: its own and those of the
// servers without a path of their own, sorted.
func behind(nodes []Node, relay int, relayed []int) []netip.Prefix {
	out := appendPrefixes(make([]netip.Prefix, 0, len(relayed)+1), &nodes[relay])
	for _, i := range relayed {
		out = appendPrefixes(out, &nodes[i])
	}
	slices.SortFunc(out, tunnel.ComparePrefix)
	return out
}

// relayOf is the index of the gateway through which servers reach each other:
// the lowest living one that stays, else the lowest living, else the lowest
// known; -1 without gateways. nodes are sorted by ID.
func relayOf(nodes []Node, owners []bool) int {
	best, rank := -1, 3
	for i := range nodes {
		n := &nodes[i]
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
