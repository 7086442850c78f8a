package agent

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"drawbridge/agent/world"
	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// underlayEar hears how large packets the host's links towards the mesh take.
type underlayEar struct {
	world *world.World
	iface string // of our own, never an underlay
	log   *slog.Logger
}

// underlayEvery is how often links are looked at: they change when somebody
// works on the host, or a modem takes over.
const underlayEvery = 30 * time.Second

func (e underlayEar) String() string { return "underlay" }

// Run looks until ctx ends.
func (e underlayEar) Run(ctx context.Context) error {
	ticker := time.NewTicker(underlayEvery)
	defer ticker.Stop()
	was := e.world.Snapshot(time.Now()).Underlay
	for {
		if n := underlay(e.iface, e.towards()); n > 0 && n != was { // without any link, what was known holds
			e.log.Info("underlay links changed", "mtu", n)
			e.world.Underlay(n)
			was = n
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// towards are the addresses at which this node meets others.
func (e underlayEar) towards() []netip.AddrPort {
	s := e.world.Snapshot(time.Now())
	var out []netip.AddrPort
	for _, m := range s.Members {
		if m.Role == discovery.RoleGateway && m.ID != s.Self.ID {
			out = append(out, m.Endpoints...)
		}
	}
	if s.Device != nil {
		out = append(out, peersAt(*s.Device)...)
	}
	return out
}

func peersAt(st tunnel.Status) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range st.Peers {
		if p.Endpoint.IsValid() && len(out) < 64 {
			out = append(out, p.Endpoint)
		}
	}
	return out
}

// elsewhere stands for all that only a default route leads to (RFC 5737).
var elsewhere = netip.MustParseAddrPort("192.0.2.1:9")

// underlay is the largest MTU, in bytes, of the links by which the host reaches
// the addresses and the rest of the world; without any such route, of all links
// that are up. 0: there is none. iface does not count. Nothing is sent.
func underlay(iface string, towards []netip.AddrPort) int {
	links, err := net.Interfaces()
	if err != nil {
		return 0
	}
	all, at := 0, map[netip.Addr]int{}
	for _, l := range links {
		if l.Name == iface || l.Flags&net.FlagUp == 0 || l.Flags&net.FlagLoopback != 0 {
			continue
		}
		all = max(all, l.MTU)
		addrs, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				at[p.Addr().Unmap()] = l.MTU
			}
		}
	}
	largest := 0
	seen := map[netip.Addr]bool{}
	for _, to := range append([]netip.AddrPort{elsewhere}, towards...) {
		if !seen[to.Addr()] {
			seen[to.Addr()] = true
			largest = max(largest, at[sourceTo(to)])
		}
	}
	if largest == 0 {
		return all
	}
	return largest
}

// sourceTo is the own address that packets to another would have; invalid:
// there is no route.
func sourceTo(to netip.AddrPort) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // connect(2) asks the routes and sends nothing
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}
