package gossip

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"drawbridge/discovery"
)

// DefaultPort is memberlist's customary port, UDP and TCP.
const DefaultPort = 7946

// Network is how gossip reaches the overlay. tunnel.Network satisfies it.
// network is "tcp" or "udp".
type Network interface {
	DialContext(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error)
	Listen(network string, addr netip.AddrPort) (net.Listener, error)
	ListenPacket(network string, addr netip.AddrPort) (net.PacketConn, error)
}

// Options are everything a Gossip needs. Fields without "default" are required.
type Options struct {
	// MeshName separates the signatures of one mesh from another's: 1-63
	// printable characters.
	MeshName string
	Mesh     netip.Prefix // overlay prefix; nothing outside it is spoken to

	Self  discovery.Identity // as certified by Chain
	Chain [][]byte           // own certificates, DER, leaf first, root left out
	// Sign signs with the identity key (Ed25519, 64 bytes).
	Sign func([]byte) []byte
	// Verify judges a chain: the identity it binds and its key, or an error
	// for another root, an expired or a revoked certificate. It is called from
	// several goroutines.
	Verify func(chain [][]byte) (discovery.Identity, ed25519.PublicKey, error)

	// Prefer reports whether an offered chain, which Verify accepted, is to take
	// the place of the held one although it does not end later: both have the
	// same end or the same leaf, and an issuer was certified again. It is called
	// from several goroutines and must not change the chains. nil: never.
	Prefer func(held, offered [][]byte) bool

	// Judge takes a notice that was heard and reports whether it is news, that
	// is, whether it was right and changed something. News is told to others
	// once. It is called from several goroutines, without a lock held, at a
	// bounded pace for each peer; it may keep the notice and must not change it.
	// nil: notices are ignored.
	Judge func(notice []byte) (news bool)
	// Notices gives all notices that hold, and Digest a value that differs
	// whenever they do. Peers that hold others are asked for them. Either nil:
	// notices are heard and published, not exchanged.
	Notices func() [][]byte
	Digest  func() [8]byte

	Network Network
	Port    uint16 // default DefaultPort; the same on every node
	MTU     int    // of the tunnel, default 1280; no datagram is larger than MTU-28

	// Seeds gives overlay addresses to join besides the gateways that are
	// known: those of the configuration and of the disk. nil: none.
	Seeds func() []netip.Addr
	// Seq is where own record numbers start. A persisted value or the wall
	// clock; a value that is too low heals itself when others tell.
	Seq uint64

	Timing Timing
	Logger *slog.Logger // default: discard
}

// Timing are the intervals, memberlist's LAN profile by default. A zero field
// takes its default.
type Timing struct {
	Probe        time.Duration // between probes of one member, default 1 s
	ProbeTimeout time.Duration // of a probe's answer, default 500 ms
	Gossip       time.Duration // between rounds of gossip, default 200 ms
	PushPull     time.Duration // between full exchanges; default 10 s below 64 nodes, then 30 s
	Rejoin       time.Duration // between attempts to reach gateways and seeds that are not alive, default 5 s
	ToTheDead    time.Duration // how long the dead are still told, default 30 s
}

func (t Timing) defaults(nodes int) Timing {
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&t.Probe, time.Second)
	fill(&t.ProbeTimeout, 500*time.Millisecond)
	fill(&t.Gossip, 200*time.Millisecond)
	pushPull := 10 * time.Second
	if nodes >= 64 {
		pushPull = 30 * time.Second
	}
	fill(&t.PushPull, pushPull)
	fill(&t.Rejoin, 5*time.Second)
	fill(&t.ToTheDead, 30*time.Second)
	return t
}

const largestMTU = 65535

// headers is what IP and UDP add to a datagram, in the larger of both versions
// (40 + 8, RFC 8200 and RFC 768), and memberlist's checksum, which it does not
// count into its own limit (5).
const headers = 40 + 8 + 5

func (o Options) defaults() (Options, error) {
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.MTU == 0 {
		o.MTU = 1280
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Seeds == nil {
		o.Seeds = func() []netip.Addr { return nil }
	}
	o.Mesh = o.Mesh.Masked()
	_, goodID := rawID(o.Self.ID)
	switch {
	case o.MeshName == "" || len(o.MeshName) > 63 || !printable(o.MeshName):
		return o, fmt.Errorf("gossip: mesh name %q must be 1-63 printable characters", o.MeshName)
	case o.MTU < 576 || o.MTU > largestMTU:
		return o, fmt.Errorf("gossip: MTU %d is not within 576-%d", o.MTU, largestMTU)
	case o.Sign == nil || o.Verify == nil || o.Network == nil:
		return o, errors.New("gossip: Sign, Verify and Network are required")
	case !goodID:
		return o, fmt.Errorf("gossip: bad own node id %q", o.Self.ID)
	case !o.Mesh.Contains(o.Self.Addr):
		return o, fmt.Errorf("gossip: own address %s is outside the mesh %s", o.Self.Addr, o.Mesh)
	}
	return o, nil
}
