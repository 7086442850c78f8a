package lab

import (
	"fmt"
	"net/netip"
	"time"
)

// The sites of the lab.
const (
	SiteCloud = "aws"
	SiteRoom  = "idc"
)

// MeshName and MeshPrefix are the demo mesh's.
const MeshName = "demo"

// MeshPrefix is the overlay of the lab.
var MeshPrefix = netip.MustParsePrefix("10.86.0.0/16")

// Addresses of the miniature internet: documentation prefixes (RFC 5737) for
// what is public, private ones (RFC 1918) for the VPC and the machine room.
var (
	publicRouter = netip.MustParseAddr("203.0.113.1")
	publicCloud  = netip.MustParseAddr("203.0.113.5")
	publicUser   = netip.MustParseAddr("203.0.113.99")
	uplinkInet   = netip.MustParseAddr("198.51.100.1")
	uplinkRoom   = netip.MustParseAddr("198.51.100.2")
	vpcCloud     = netip.MustParseAddr("172.31.1.5")
	roomRouter   = netip.MustParseAddr("192.168.50.1")
)

// uplinkName is the link of the machine room as the internet's router sees it.
const uplinkName = "up-idc"

// Ports of the lab's hosts, where no plan says otherwise.
const (
	wireguardPort = 51820
	appPort       = 8080
	awsPort       = 4566
	balancerPort  = 80
	httpsPort     = 443
)

// Node is a host that runs an agent.
type Node struct {
	Name    string
	Site    string
	Gateway bool

	Underlay   netip.Addr     // in the VPC or on the machine room's LAN
	Endpoint   netip.AddrPort // advertised; gateways only
	Names      []string       // HOST:PORT for Endpoint, in the configuration; gateways only
	ListenPort uint16         // WireGuard UDP and enrolment TCP; 0: any
	ENI        string         // gateways: the interface that VPC routes point to
	Proxy      netip.AddrPort // loopback ground, gateways: CONNECT into the overlay
	App        netip.AddrPort // where the node's own server listens; servers only
}

// AppHost is a host of the cloud pool: a plain server without an agent.
type AppHost struct {
	Name   string
	Addr   netip.AddrPort // as the load balancer knows it
	Listen netip.AddrPort // where it really listens
}

// Map is the address plan of one lab on one ground.
type Map struct {
	Nodes []Node // gateways first; the first one founds the mesh
	Apps  []AppHost

	AWS    netip.AddrPort   // the AWS API
	Public netip.AddrPort   // the load balancer, as the user reaches it
	Front  []netip.AddrPort // all addresses the load balancer listens on
}

// Gateways are the nodes that hold the cloud's side.
func (m Map) Gateways() []Node {
	var out []Node
	for _, n := range m.Nodes {
		if n.Gateway {
			out = append(out, n)
		}
	}
	return out
}

// Node finds a node by name.
func (m Map) Node(name string) (Node, bool) {
	for _, n := range m.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// namespacesMap is the plan on namespaces, with real-looking addresses.
func namespacesMap(servers int) Map {
	m := Map{
		AWS:    netip.AddrPortFrom(vpcCloud, awsPort),
		Public: netip.AddrPortFrom(publicCloud, balancerPort),
		Front: []netip.AddrPort{
			netip.AddrPortFrom(vpcCloud, balancerPort),
			netip.AddrPortFrom(publicCloud, balancerPort),
		},
	}
	for i, name := range gatewayNames {
		public := netip.AddrFrom4([4]byte{203, 0, 113, byte(11 + i)})
		m.Nodes = append(m.Nodes, Node{
			Name: name, Site: SiteCloud, Gateway: true,
			Underlay:   netip.AddrFrom4([4]byte{172, 31, 1, byte(11 + i)}),
			Endpoint:   netip.AddrPortFrom(public, wireguardPort),
			ListenPort: wireguardPort,
		})
	}
	for i := range servers {
		m.Nodes = append(m.Nodes, namespacesServer(i))
	}
	for i, name := range appNames {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 31, 1, byte(21 + i)}), appPort)
		m.Apps = append(m.Apps, AppHost{Name: name, Addr: addr, Listen: addr})
	}
	return m
}

// namespacesServer is the plan of the i-th server of the machine room.
func namespacesServer(i int) Node {
	return Node{
		Name: serverName(i), Site: SiteRoom,
		Underlay:   netip.AddrFrom4([4]byte{192, 168, 50, byte(11 + i)}),
		ListenPort: wireguardPort,
		App:        netip.AddrPortFrom(netip.IPv4Unspecified(), appPort),
	}
}

var (
	gatewayNames = []string{"gw-a", "gw-b"}
	appNames     = []string{"app-a", "app-b"}
)

func serverName(i int) string { return fmt.Sprintf("gpu-%d", i+1) }

// maxServers is what the machine room's address plan holds.
const maxServers = 200

// Pace is how quickly the demo lets a returned site back in. The detection
// settings are always the defaults; only the waiting is shortened, so that a
// person can watch it.
type Pace struct {
	HoldDown time.Duration
	RampStep time.Duration
	Ramp     []int // percent of normal
}

// DemoPace waits five seconds and then takes four steps of three.
func DemoPace() Pace {
	return Pace{HoldDown: 5 * time.Second, RampStep: 3 * time.Second, Ramp: []int{10, 25, 50, 100}}
}
