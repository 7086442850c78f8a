package config

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"

	"github.com/goccy/go-yaml/ast"
)

// settings reads the whole file. Its result counts only if nothing was wrong.
func settings(r *reader, root ast.Node) Settings {
	c := Default()
	s := r.section(root, "the file")
	version := 1
	field(s, "version", &version, integer(1, 1))
	if !s.broken && !s.has("version") {
		s.fail("version", "version is missing; begin with \"version: 1\"")
	}
	field(s, "listen_port", &c.ListenPort, portOrZero)
	readEndpoints(s, &c)
	field(s, "backend", &c.Backend, oneOf(tunnel.Auto, tunnel.Kernel, tunnel.Userspace, tunnel.Netstack))
	field(s, "interface", &c.Interface, like(ifaceShape, "an interface name of at most 15 letters, digits, '_', '.' and '-'"))
	field(s, "mtu", &c.MTU, integerOr0(576, 9000))
	field(s, "socket", &c.Socket, like(socketShape, "an absolute path of at most 107 bytes"))
	field(s, "connect_proxy", &c.ConnectProxy, optional(loopback))
	if l, ok := s.sub("log"); ok {
		field(l, "level", &c.Log.Level, level)
		field(l, "format", &c.Log.Format, oneOf("text", "json"))
		l.done()
	}
	readPorts(s, &c.Ports)
	readServices(s, &c)
	readSubnets(s, "advertise", &c.Advertise)
	if c.Backend == tunnel.Netstack && len(c.Advertise) > 0 {
		s.fail("advertise", "the netstack backend forwards nothing: what is behind this host needs backend: auto or tun")
	}
	routes := readRoutes(s, &c)
	readTiming(s, &c.Timing)
	readAWS(s, &c.AWS)
	readEnrolment(s, &c.Enrolment)
	s.done()
	checkRoutes(routes, c.AWS.Region)
	return c
}

// maxNames is how many names a record has room for (discovery.Announcement).
const maxNames = 2

// readEndpoints parts addresses from names.
func readEndpoints(s *section, c *Settings) {
	var all []endpointWord
	list(s, "endpoints", &all, endpoint)
	for _, e := range all {
		if e.name != "" {
			c.EndpointNames = append(c.EndpointNames, e.name)
		} else {
			c.Endpoints = append(c.Endpoints, e.addr)
		}
	}
	if len(c.EndpointNames) > maxNames {
		s.fail("endpoints", "%d names, at most %d", len(c.EndpointNames), maxNames)
	}
}

func readPorts(s *section, p *Ports) {
	n, ok := s.sub("ports")
	if !ok {
		return
	}
	field(n, "gossip", &p.Gossip, port)
	field(n, "probe", &p.Probe, port)
	n.done()
	if p.Gossip == p.Probe {
		n.fail("probe", "gossip and probe both use UDP port %d; give them different ones", p.Probe)
	}
}

func readServices(s *section, c *Settings) {
	names, ports := map[string]bool{}, map[uint16]string{}
	for _, n := range s.subs("services") {
		v := defaultService()
		field(n, "name", &v.Name, label)
		field(n, "port", &v.Port, port)
		field(n, "to", &v.To, addrPort)
		field(n, "capacity", &v.Capacity, integer(1, 1_000_000))
		readCheck(n, &v.Check)
		n.done()
		n.require("a service", "name", "port")
		if !v.To.IsValid() && v.Port != 0 {
			v.To = localhost(v.Port)
		}
		switch {
		case v.Name != "" && names[v.Name]:
			n.fail("name", "service %q is written twice", v.Name)
		case v.Port != 0 && ports[v.Port] != "":
			n.fail("port", "port %d is already that of service %q", v.Port, ports[v.Port])
		case v.Port != 0 && (v.Port == c.Ports.Gossip || v.Port == c.Ports.Probe):
			n.fail("port", "port %d is a control port of the mesh (see ports)", v.Port)
		}
		names[v.Name], ports[v.Port] = true, v.Name
		c.Services = append(c.Services, v)
	}
	slices.SortFunc(c.Services, func(a, b discovery.ServiceSpec) int { return cmp.Compare(a.Name, b.Name) })
}

// localhost is where a service listens unless the file says otherwise.
func localhost(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func readCheck(s *section, c *discovery.CheckSpec) {
	n, ok := s.sub("check")
	if !ok {
		return
	}
	*c = defaultCheck()
	var tcp bool
	field(n, "tcp", &tcp, yes)
	field(n, "http", &c.Path, like(pathShape, "a request path, like /healthz"))
	field(n, "interval", &c.Interval, duration(100*time.Millisecond, 5*time.Minute))
	field(n, "timeout", &c.Timeout, duration(10*time.Millisecond, time.Minute))
	field(n, "rise", &c.Rise, integer(1, 100))
	field(n, "fall", &c.Fall, integer(1, 100))
	n.done()
	switch {
	case n.broken:
	case n.has("tcp") == n.has("http"):
		n.r.fail(n.where, "a check is either \"tcp: true\" or \"http: /path\"; without a check the service always counts as passing")
	case n.has("tcp"):
		c.Kind = discovery.CheckTCP
	default:
		c.Kind = discovery.CheckHTTP
	}
	if c.Timeout > c.Interval {
		n.fail("timeout", "timeout %s is longer than the interval %s", short(c.Timeout), short(c.Interval))
	}
}

func readTiming(s *section, t *Timing) {
	n, ok := s.sub("timing")
	if !ok {
		return
	}
	field(n, "pulse", &t.Pulse, zeroOr(duration(10*time.Millisecond, 10*time.Second)))
	field(n, "echo_after", &t.EchoAfter, zeroOr(duration(50*time.Millisecond, time.Minute)))
	field(n, "dark_after", &t.DarkAfter, zeroOr(duration(200*time.Millisecond, 5*time.Minute)))
	field(n, "alone_after", &t.AloneAfter, duration(200*time.Millisecond, 10*time.Minute))
	field(n, "peer_silent", &t.PeerSilent, duration(200*time.Millisecond, 10*time.Minute))
	field(n, "view_fresh", &t.ViewFresh, duration(50*time.Millisecond, time.Minute))
	field(n, "start_grace", &t.StartGrace, duration(time.Second, 10*time.Minute))
	field(n, "target_lost", &t.TargetLost, duration(time.Second, time.Hour))
	n.done()
	if t.Pulse > 0 && t.DarkAfter > 0 && t.DarkAfter < 3*t.Pulse {
		n.fail("dark_after", "dark_after %s is less than three pulses of %s: one lost packet would nearly do", short(t.DarkAfter), short(t.Pulse))
	}
	if t.EchoAfter > 0 && t.DarkAfter > 0 && t.DarkAfter <= t.EchoAfter {
		n.fail("dark_after", "dark_after %s must be longer than echo_after %s: the echo burst needs time to be answered", short(t.DarkAfter), short(t.EchoAfter))
	}
	if t.AloneAfter < t.DarkAfter {
		n.fail("alone_after", "alone_after %s is shorter than dark_after %s: one observer alone must be more patient than two", short(t.AloneAfter), short(t.DarkAfter))
	}
	if t.ViewFresh < t.Pulse*3/2 {
		n.fail("view_fresh", "view_fresh %s is less than one and a half pulses of %s, with which views travel", short(t.ViewFresh), short(t.Pulse))
	}
}

func readAWS(s *section, a *AWS) {
	n, ok := s.sub("aws")
	if !ok {
		return
	}
	field(n, "region", &a.Region, optional(like(regionShape, "a region, like ap-northeast-2")))
	field(n, "endpoint_url", &a.EndpointURL, optional(endpointURL))
	field(n, "eni", &a.ENI, optional(like(eniShape, "a network interface, like eni-0123456789abcdef0")))
	list(n, "route_tables", &a.RouteTables, like(tableShape, "a route table, like rtb-0123456789abcdef0"))
	field(n, "poll", &a.Poll, duration(time.Second, 5*time.Minute))
	n.done()
	slices.Sort(a.RouteTables)
	for i := 1; i < len(a.RouteTables); i++ {
		if a.RouteTables[i] == a.RouteTables[i-1] {
			n.fail("route_tables", "route table %s is written twice", a.RouteTables[i])
		}
	}
}
