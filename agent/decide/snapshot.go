package decide

import (
	"net/netip"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// Snapshot is every fact the brain may use, immutable and numbered. Lists are
// sorted by their key. Whoever builds one never changes it afterwards.
type Snapshot struct {
	Version  uint64
	Self     discovery.Identity
	Settings Settings

	Members []discovery.Member // self included, sorted by ID
	Settled bool               // membership has not changed for a while

	Sight discovery.Sight  // own prober; zero until its first report
	Views []discovery.View // what other gateways told us, sorted by observer, site

	Host      *tunnel.Host          // what else is on this host; nil: not read yet
	Device    *tunnel.Status        // nil: unknown
	Underlay  int                   // MTU of the largest link towards the mesh, bytes; 0 unknown
	Endpoints []discovery.Endpoint  // remembered from disk, sorted by node
	Resolved  []discovery.Endpoint  // found under the names of silent gateways, sorted by node
	Streams   []tunnel.StreamStatus // of the wished streams, sorted by key

	Services []discovery.ServiceSpec // of this node, as configured
	Checks   []discovery.Service     // of this node, with health, sorted by name

	Cloud discovery.Readings

	Trust discovery.Trust // own standing, and who is no longer trusted

	// Lease is who may write to AWS, as far as a lease store knows. A nil
	// Lease means there is no store: the lowest living gateway writes.
	Lease *Lease
}

// Lease is a reading of the lease store.
type Lease struct {
	Holder discovery.NodeID // "" nobody
	Until  time.Time        // by our clock: no write may start after it
}

// Settings are the parts of the configuration that rules need.
type Settings struct {
	Mesh      netip.Prefix
	Mesh6     netip.Prefix      // the same in IPv6; invalid: IPv4 only
	Routes    []discovery.Route // sorted by name
	Tables    []string          // VPC route tables to keep, sorted
	Control   []uint16          // control ports open in the mesh, sorted
	Advertise []netip.Prefix    // networks behind this server, as configured, sorted
	Interface string            // system interface of the device; "" on netstack
	Backend   tunnel.Backend
	MTU       int // of the device; 0: by the underlay
	Timing    Timing
}

// Timing are the times of the verdict. Zero fields take the defaults
// (see Defaults).
type Timing struct {
	Pulse      time.Duration // between pulses; 0: by the number of nodes
	EchoAfter  time.Duration // silence of a whole site until echo bursts; 0: by the number
	DarkAfter  time.Duration // silence of a whole site until the own view is dark; 0: by the number
	AloneAfter time.Duration // own darkness when no other observer is left
	PeerSilent time.Duration // silence of another gateway until it counts as gone
	ViewFresh  time.Duration // age up to which another gateway's view counts
	StartGrace time.Duration // blind after start until the first proof, at most
	TargetLost time.Duration // a node lost for so long is deregistered
}

// Defaults fills zero fields, except the three that depend on the number of
// nodes of a site.
func (t Timing) Defaults() Timing {
	fill := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	fill(&t.AloneAfter, 2*time.Second)
	fill(&t.PeerSilent, 2*time.Second)
	fill(&t.ViewFresh, 300*time.Millisecond)
	fill(&t.StartGrace, 30*time.Second)
	fill(&t.TargetLost, 10*time.Second)
	return t
}
