package agent

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drawbridge/discovery"
)

// placeEar learns where this host is, and lets the herald tell it: the
// addresses of its own interfaces, those that gateways hear it from, and for a
// gateway where it can be dialled.
type placeEar struct {
	agent *Agent
	seen  []netip.AddrPort
	held  []netip.AddrPort // differs from seen, and is not told yet
	since time.Time        // of held
	told  time.Time        // when seen changed last

	local, doors []netip.AddrPort // as said last
	grown        bool             // a gateway is not young any more
}

const (
	// youth is how long after its start a gateway is no relay if another can be:
	// the longest pause between two handshakes that a server forces, and some.
	youth      = 15 * time.Second
	placeEvery = time.Second
	localEvery = 5 // in placeEvery
	// A new address is told when it has stood for so long, a new port of the same
	// address at a slower pace: a NAT that gives a port to every packet must not
	// make a record of each.
	seenAfter = time.Second
	seenPause = 30 * time.Second
)

func (e *placeEar) String() string { return "own place" }

// Run looks until ctx ends.
func (e *placeEar) Run(ctx context.Context) error {
	ticker := time.NewTicker(placeEvery)
	defer ticker.Stop()
	for n := 0; ; n++ {
		a := e.agent
		now := time.Now()
		s := a.world.Snapshot(now)
		if e.hear(now, gatewaysSee(s.Members, s.Sight.Observations)) {
			seen := e.seen
			a.log.Info("gateways hear this node from", "endpoint", seen)
			a.herald.say(func(said *discovery.Announcement) { said.Seen = seen })
		}
		server := a.id.self.Role != discovery.RoleGateway
		if server && n%localEvery == 0 && s.Device != nil {
			if local := localAddrs(a.tunnel.iface, a.id.node.Prefix, s.Device.ListenPort); !slices.Equal(local, e.local) {
				e.local = local
				a.herald.say(func(said *discovery.Announcement) { said.Local = local })
			}
		}
		if !server && !e.grown && now.Sub(a.started) >= youth {
			e.grown = true
			a.herald.say(func(said *discovery.Announcement) { said.Young = false })
		}
		if doors := e.dialled(); !server && !slices.Equal(doors, e.doors) {
			e.doors = doors
			a.log.Info("can be dialled at", "endpoint", doors)
			a.herald.say(func(said *discovery.Announcement) { said.Endpoints = doors })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// dialled is where a gateway can be dialled: as configured, as its names
// resolve, and as the other gateways see it if its port came through unchanged:
// that is what remains true when a cloud gave it another public address.
func (e *placeEar) dialled() []netip.AddrPort {
	a := e.agent
	list := slices.Clone(a.endpoints())
	for _, s := range e.seen {
		if s.Port() == a.port() && !s.Addr().IsPrivate() && s.Addr().IsGlobalUnicast() && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list[:min(len(list), 8)]
}

// hear takes what gateways see now, and reports whether that is to be told.
func (e *placeEar) hear(now time.Time, is []netip.AddrPort) bool {
	next := newestFirst(e.seen, is)
	if len(is) == 0 || slices.Equal(next, e.seen) {
		e.held = nil // nobody tells: the last word stays
		return false
	}
	if !slices.Equal(next, e.held) {
		e.held, e.since = next, now
	}
	if now.Sub(e.since) < seenAfter || now.Sub(e.told) < seenPause && sameHosts(next, e.seen) {
		return false
	}
	e.seen, e.held, e.told = next, nil, now
	return true
}

// gatewaysSee are the addresses that gateways say they hear this node from.
func gatewaysSee(ms []discovery.Member, obs []discovery.Observation) []netip.AddrPort {
	var out []netip.AddrPort
	for _, o := range obs {
		i, ok := slices.BinarySearchFunc(ms, o.Node, func(m discovery.Member, id discovery.NodeID) int { return cmp.Compare(m.ID, id) })
		if ok && ms[i].Role == discovery.RoleGateway && o.Seen.IsValid() && o.Seen.Port() != 0 && !slices.Contains(out, o.Seen) {
			out = append(out, o.Seen)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// newestFirst puts what is new before what was known and still holds; 4 at most.
func newestFirst(was, is []netip.AddrPort) []netip.AddrPort {
	var out, old []netip.AddrPort
	for _, a := range is {
		if !slices.Contains(was, a) {
			out = append(out, a)
		}
	}
	for _, a := range was {
		if slices.Contains(is, a) {
			old = append(old, a)
		}
	}
	out = append(out, old...)
	return out[:min(len(out), 4)]
}

func sameHosts(a, b []netip.AddrPort) bool {
	has := func(list []netip.AddrPort, x netip.AddrPort) bool {
		return slices.ContainsFunc(list, func(y netip.AddrPort) bool { return x.Addr() == y.Addr() })
	}
	return !slices.ContainsFunc(a, func(x netip.AddrPort) bool { return !has(b, x) }) &&
		!slices.ContainsFunc(b, func(x netip.AddrPort) bool { return !has(a, x) })
}

// virtual begins the names of interfaces behind which no neighbour lives:
// containers, virtual machines, and other tunnels.
var virtual = []string{
	"docker", "br-", "veth", "virbr", "vnet", "lxc", "lxd", "incus", "cni", "flannel", "cali", "cilium", "kube", "podman", "nerdctl",
	"wg", "tun", "tap", "tailscale", "zt", "nebula", "utun", "dummy", "ifb", "drawbridge",
}

// localAddrs are the addresses at which neighbours on a wire of this host may
// dial it, sorted, 8 at most: IPv4, or IPv6 on a host that has no other.
func localAddrs(own string, mesh netip.Prefix, port uint16) []netip.AddrPort {
	ifaces, err := net.Interfaces()
	if err != nil || port == 0 {
		return nil
	}
	var v4, v6 []netip.AddrPort
	for _, f := range ifaces {
		if f.Name == own || f.Flags&net.FlagUp == 0 || f.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 ||
			slices.ContainsFunc(virtual, func(p string) bool { return strings.HasPrefix(f.Name, p) }) {
			continue
		}
		addrs, err := f.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			ip := p.Addr().Unmap()
			switch {
			case err != nil || !ip.IsGlobalUnicast() || mesh.Contains(ip) || ip.IsLinkLocalUnicast():
			case ip.Is4():
				v4 = append(v4, netip.AddrPortFrom(ip, port))
			default:
				v6 = append(v6, netip.AddrPortFrom(ip.WithZone(""), port))
			}
		}
	}
	if len(v4) == 0 {
		v4 = v6
	}
	slices.SortFunc(v4, netip.AddrPort.Compare)
	v4 = slices.Compact(v4)
	return v4[:min(len(v4), 8)]
}
