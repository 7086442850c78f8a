package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// uplink is the link of the machine room as the internet's router sees it.
const uplink = uplinkName

// namespaces is the ground of real packets:
//
//	      inet  bridge "pub" 203.0.113.1/24         uplink 198.51.100.1
//	     /  |  \        \                             |
//	gw-a  gw-b  cloud   user                       idc-nat  (NAT, no inbound)
//	  \    |    /                                     |
//	   vpc bridge 172.31.1.0/24 -- app-a, app-b     bridge "lan" 192.168.50.1/24
//	                                                gpu-1  gpu-2  gpu-3 ...
type namespaces struct {
	mu      sync.Mutex // guards hosts, servers
	hosts   map[string]*host
	servers int
}

// newNamespaces builds the whole internet in the calling process, which must
// be inside a user namespace of its own (see Enter).
func newNamespaces(servers int) (ground, Map, error) {
	g := &namespaces{hosts: map[string]*host{}}
	m := namespacesMap(servers)
	if err := g.build(m); err != nil {
		return nil, Map{}, errors.Join(err, g.close())
	}
	return g, m, nil
}

func (g *namespaces) build(m Map) error {
	names := []string{"inet", "vpc", "cloud", "user", "idc-nat"}
	for _, n := range m.Gateways() {
		names = append(names, n.Name)
	}
	for _, a := range m.Apps {
		names = append(names, a.Name)
	}
	for _, name := range names {
		h, err := newHost(name)
		if err != nil {
			return fmt.Errorf("make host %s: %w", name, err)
		}
		g.hosts[name] = h
	}
	if err := g.buildRouters(); err != nil {
		return err
	}
	public := map[string]netip.Addr{"cloud": publicCloud, "user": publicUser}
	inVPC := map[string]netip.Addr{"cloud": vpcCloud}
	for _, n := range m.Gateways() {
		public[n.Name], inVPC[n.Name] = n.Endpoint.Addr(), n.Underlay
	}
	for _, a := range m.Apps {
		inVPC[a.Name] = a.Addr.Addr()
	}
	for name, addr := range public {
		if err := g.plugIn("inet", "pub", name, "eth0", addr); err != nil {
			return err
		}
		if err := g.hosts[name].route(anywhere, publicRouter); err != nil {
			return err
		}
	}
	for name, addr := range inVPC {
		if err := g.plugIn("vpc", "vpc", name, "eth1", addr); err != nil {
			return err
		}
	}
	for range len(m.Nodes) - len(m.Gateways()) {
		if _, err := g.addServer(); err != nil {
			return err
		}
	}
	return nil
}

// buildRouters makes the internet's router, the VPC's switch and the machine
// room's NAT.
func (g *namespaces) buildRouters() error {
	inet, nat := g.hosts["inet"], g.hosts["idc-nat"]
	steps := []func() error{
		func() error { return inet.bridge("pub", netip.PrefixFrom(publicRouter, 24)) },
		func() error { return g.hosts["vpc"].bridge("vpc", netip.Prefix{}) },
		func() error { return nat.bridge("lan", netip.PrefixFrom(roomRouter, 24)) },
		func() error {
			return inet.wire(uplink, netip.PrefixFrom(uplinkInet, 24), nat, "uplink", netip.PrefixFrom(uplinkRoom, 24))
		},
		inet.forwarding,
		nat.forwarding,
		func() error { return nat.route(anywhere, uplinkInet) },
		func() error { return nat.masquerade("uplink") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// plugIn gives host name a leg in a switch.
func (g *namespaces) plugIn(sw, br, name, link string, addr netip.Addr) error {
	s := g.hosts[sw]
	port := "p-" + name
	if err := s.wire(port, netip.Prefix{}, g.hosts[name], link, netip.PrefixFrom(addr, 24)); err != nil {
		return err
	}
	if sw == "vpc" || sw == "inet" && name != "user" {
		if err := errors.Join(s.width(port, jumbo), g.hosts[name].width(link, jumbo)); err != nil {
			return err
		}
	}
	return s.plug(port, br)
}

// jumbo is the MTU of interfaces on EC2.
const jumbo = 9001

// addServer makes the machine room's next server.
func (g *namespaces) addServer() (Node, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.servers == maxServers {
		return Node{}, fmt.Errorf("add server: the machine room holds %d", maxServers)
	}
	n := namespacesServer(g.servers)
	h, err := newHost(n.Name)
	if err != nil {
		return Node{}, fmt.Errorf("make host %s: %w", n.Name, err)
	}
	g.hosts[n.Name] = h
	g.servers++
	if err := g.plugIn("idc-nat", "lan", n.Name, "eth0", n.Underlay); err != nil {
		return Node{}, err
	}
	return n, h.route(anywhere, roomRouter)
}

// addStrangers makes a host beyond a router of its own: a whole prefix is its.
func (g *namespaces) addStrangers() (netip.Prefix, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hosts[strangersHost] != nil {
		return strangersPrefix, nil
	}
	h, err := newHost(strangersHost)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("make host %s: %w", strangersHost, err)
	}
	g.hosts[strangersHost] = h
	inet := g.hosts["inet"]
	for _, step := range []func() error{
		func() error {
			return inet.wire("up-"+strangersHost[:5], netip.PrefixFrom(strangersRouter, 24), h, "eth0", netip.PrefixFrom(strangersUplink, 24))
		},
		func() error { return h.route(anywhere, strangersRouter) },
		func() error { return h.own(strangersPrefix) },
		func() error { return inet.route(strangersPrefix, strangersUplink) },
	} {
		if err := step(); err != nil {
			return netip.Prefix{}, err
		}
	}
	return strangersPrefix, nil
}

// start runs cmd in the namespace of a host.
func (g *namespaces) start(name string, cmd *exec.Cmd) error {
	g.mu.Lock()
	h := g.hosts[name]
	g.mu.Unlock()
	if h == nil {
		return fmt.Errorf("start on %s: no such host (have %s)", name, strings.Join(g.names(), ", "))
	}
	return h.do(cmd.Start)
}

func (g *namespaces) names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for name := range g.hosts {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (g *namespaces) fault(site string, percent int) error {
	if site != SiteRoom {
		return fmt.Errorf("only the uplink of %s can be cut, not %q", SiteRoom, site)
	}
	return g.hosts["inet"].fault(uplink, percent)
}

func (g *namespaces) firewall(on bool) error { return g.hosts["idc-nat"].onlyHTTPS("uplink", on) }

// close lets the namespaces go; the kernel takes links and rules with them.
func (g *namespaces) close() error {
	var errs []error
	for _, h := range g.hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}
