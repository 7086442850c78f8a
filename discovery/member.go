package discovery

import (
	"net/netip"
	"time"
)

// NodeID identifies a node for as long as its identity key lives: lower-case
// hex of the first 16 bytes of the SHA-256 of the key's PKIX form. Host names
// are labels.
type NodeID string

// Short is the first eight digits, for people.
func (id NodeID) Short() string { return string(id[:min(8, len(id))]) }

// Role says what a node may do for others.
type Role string

// The roles. A gateway lives in AWS, can be dialled by everyone, forwards load
// balancer traffic and may hold AWS credentials; every other node is a server.
const (
	RoleGateway Role = "gateway"
	RoleServer  Role = "server"
)

// Identity is what a node's certificate binds. A claim outside it is dropped.
type Identity struct {
	ID        NodeID
	Name      string     // host label, unique in the mesh as far as issuers know
	Site      string     // for example aws, idc-seoul
	Role      Role       //
	Addr      netip.Addr // overlay address
	WireGuard [32]byte   // public key
	NotAfter  time.Time  // end of the certificate
	// Subnets are the networks behind the node that it may speak for: machines
	// without an agent. Sorted; IPv4, private, outside the mesh.
	Subnets []netip.Prefix
}

// Announcement is what a node says of itself, in its own signed record.
type Announcement struct {
	Boot      uint64           // changes with every start of the agent
	Endpoints []netip.AddrPort // underlay, where others can dial; empty behind NAT
	Services  []Service        // sorted by name
	Draining  bool             // wants no new work
	Version   string           // of the agent
	ENI       string           // gateways on EC2: the interface that VPC routes point to
	Trust     uint64           // number of the set of roots this node trusts; 0: the first, or an older version
	// Seen are the underlay addresses that gateways hear this node from, newest
	// first, at most 4: who shares one of them is behind the same NAT.
	Seen []netip.AddrPort
	// Local are the addresses of the host's own interfaces with its WireGuard
	// port, for neighbours; at most 8, sorted.
	Local []netip.AddrPort
	// Direct are the overlay addresses of the neighbours with which this node
	// has a WireGuard session of its own, sorted; IPv4, at most 60. A path is
	// direct when both ends say so.
	Direct []netip.Addr
	// Streams are where a gateway takes WireGuard's datagrams over TLS (TCP); at
	// most 4.
	Streams []netip.AddrPort
	// Young says of a gateway that it has just started, and that servers better
	// reach each other through another one until all of them have found it.
	Young bool
	// Names are HOST:PORT under which a gateway can be found when none of its
	// Endpoints answers any more; at most 2, DNS names only.
	Names []string
}

// Record is a verified node record: a certified identity with the newest
// announcement. Seq 0 is an introduction: the certificate alone, by whoever
// issued it, before the node itself was heard.
type Record struct {
	Identity
	Seq uint64
	Announcement
}

// MemberState is the gossip's opinion: a hint, never evidence.
type MemberState string

// The states, as `members` prints them. Known means a verified record without
// a gossip connection yet (introduced, or read from disk).
const (
	StateKnown   MemberState = "known"
	StateAlive   MemberState = "alive"
	StateSuspect MemberState = "suspect"
	StateDead    MemberState = "dead"
	StateLeft    MemberState = "left"
)

// Member is a record with its liveness. Lists are sorted by ID and include self.
type Member struct {
	Record
	State MemberState
	Since time.Time // of State, by this node's clock
	// Twin is when signed records last showed that two processes speak as the
	// node, by this node's clock; zero: never. A single time may be a restart
	// from an older disk; two living copies show themselves again within seconds.
	Twin time.Time
}

// Endpoint is where a node was last heard from, by key of nobody's claim: the
// device saw it. Kept on disk so that a restarted gateway can speak first.
type Endpoint struct {
	Node NodeID
	Addr netip.AddrPort
}
