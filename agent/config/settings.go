package config

import (
	"log/slog"
	"net/netip"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// Settings are a whole, checked configuration. [Default] is what an empty file
// means. Two readings of equal files are equal (reflect.DeepEqual).
type Settings struct {
	// ListenPort is WireGuard's UDP port in the underlay; 0: what init or join
	// decided, 51820 unless told otherwise. Gateways serve
	// enrolment on the TCP port of the same number.
	ListenPort uint16
	// Endpoints are where others dial this node; both empty: what the state
	// directory knows. EndpointNames are the same by DNS, HOST:PORT, at most 2.
	// Sorted as written.
	Endpoints     []netip.AddrPort
	EndpointNames []string
	Backend       tunnel.Backend
	Interface     string // system name of the device
	MTU           int    // of the device, bytes; 0: by the host's links
	Socket        string // path of the local API
	// ConnectProxy is a loopback address with port on which HTTP CONNECT leads
	// into the overlay; empty: off.
	ConnectProxy string
	Log          Log
	Ports        Ports
	Services     []discovery.ServiceSpec // of this node, sorted by name
	// Advertise are the networks behind this server that gateways lead to;
	// sorted. What its certificate does not have does not count.
	Advertise []netip.Prefix
	Routes    []discovery.Route // sorted by name
	Timing    Timing
	AWS       AWS
	Enrolment Enrolment
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level
	Format string // text or json
}

// Ports are the control ports in the overlay, the same on every node of the mesh.
type Ports struct {
	Gossip uint16 // UDP and TCP
	Probe  uint16 // UDP
}

// Timing are the times of the verdict, field by field those of
// agent/decide.Timing, so that one converts to the other. 0 in Pulse, EchoAfter
// and DarkAfter: by the number of nodes of the site.
type Timing struct {
	Pulse      time.Duration // between pulses
	EchoAfter  time.Duration // silence of a whole site until echo bursts
	DarkAfter  time.Duration // silence of a whole site until the own view is dark
	AloneAfter time.Duration // own darkness when no other observer is left
	PeerSilent time.Duration // silence of another gateway until it counts as gone
	ViewFresh  time.Duration // age up to which another gateway's view counts
	StartGrace time.Duration // blind after start until the first proof, at most
	TargetLost time.Duration // a node lost for so long is deregistered
}

// AWS is what gateways need of the cloud. Credentials are never configured:
// they come from the instance's role or the SDK's own environment.
type AWS struct {
	Region      string        // empty: what the environment says
	EndpointURL string        // empty: AWS; otherwise a fake or a private endpoint
	ENI         string        // of this gateway, for VPC routes; empty: none points here
	RouteTables []string      // to keep the mesh prefix in, sorted
	Poll        time.Duration // between readings at rest
}

// Enrolment is how gateways let hosts in, and how long what they certify lasts.
type Enrolment struct {
	// NodeLife is the life of the certificates issued here, 1m to 90 days.
	// Nodes renew at half of it.
	NodeLife time.Duration
	// Listen are further TCP addresses where this gateway takes joining hosts
	// and streams, beside the port with WireGuard's number. As written.
	Listen []netip.AddrPort
	// Advertise is where others reach that by TCP; empty: every endpoint, with
	// the ports of Listen too. As written.
	Advertise       []netip.AddrPort
	RequireApproval bool // every join waits for a person, not only those by tokens that say so
	// EphemeralAfter is how long an ephemeral node may be silent, while its
	// site is not, until it is collected.
	EphemeralAfter time.Duration
	// QuarantineClones sets a node apart when two hosts use its identity.
	QuarantineClones bool
	AWS              []AWSRule // sorted by name; without one nobody joins by AWS identity
	STSEndpoint      string    // empty: AWS; otherwise a private endpoint or a fake
}

// AWSRule lets hosts join by the AWS role that they can prove to have.
type AWSRule struct {
	Name      string         // of the rule
	Account   string         // 12 digits
	Role      string         // pattern of the IAM role's name, without path, as in path.Match
	Site      string         // of the nodes
	NodeRole  discovery.Role //
	Names     []string       // patterns of node names; empty: any
	Ephemeral bool
	Subnets   []netip.Prefix // that the nodes may advertise, sorted
}

// Default is the configuration of an empty file.
func Default() Settings {
	return Settings{
		Backend:   tunnel.Auto,
		Interface: "drawbridge0",
		Socket:    "/run/drawbridge/agent.sock",
		Log:       Log{Level: slog.LevelInfo, Format: "text"},
		Ports:     Ports{Gossip: 7946, Probe: 7947},
		// The figures of agent/decide for what does not depend on the number
		// of nodes; written here so that they can be shown.
		Timing: Timing{
			AloneAfter: 2 * time.Second,
			PeerSilent: 2 * time.Second,
			ViewFresh:  300 * time.Millisecond,
			StartGrace: 30 * time.Second,
			TargetLost: 10 * time.Second,
		},
		AWS: AWS{Poll: 5 * time.Second},
		Enrolment: Enrolment{
			NodeLife: 30 * 24 * time.Hour, EphemeralAfter: 10 * time.Minute, QuarantineClones: true,
		},
	}
}

// defaultService is a service of which only name and port are written.
func defaultService() discovery.ServiceSpec {
	return discovery.ServiceSpec{Capacity: 1, Check: discovery.CheckSpec{Kind: discovery.CheckNone}}
}

// defaultCheck is a check of which only the kind is written.
func defaultCheck() discovery.CheckSpec {
	return discovery.CheckSpec{Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 2}
}

// defaultRoute is a route of which only name, rule and pools are written: hold
// for 30 s, doubling to 30 min, then four steps of 15 s. In simulation that
// kept a flapping line to 3.5 weight changes an hour, where returning at once
// needed 230.
func defaultRoute() discovery.Route {
	return discovery.Route{
		Policy:   discovery.PolicyStatic,
		HoldDown: 30 * time.Second,
		HoldMax:  30 * time.Minute,
		Ramp:     []int{10, 25, 50, 100},
		RampStep: 15 * time.Second,
	}
}
