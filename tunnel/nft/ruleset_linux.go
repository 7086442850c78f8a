package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
)

// rule is a list of parts that all have to match, the last of which acts.
type rule []part

func (r rule) String() string {
	words := make([]string, len(r))
	for i, p := range r {
		words[i] = p.text
	}
	return strings.Join(words, " ")
}

// chain hooks rules into the way of packets. What no rule decides passes.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    []rule
}

// ruleset is the whole table for a wish.
//
// What comes out of the tunnel is judged in prerouting, before anybody
// translates destinations: there the port is still the published one, whether
// the service listens itself, is redirected to, or sits in a container.
func ruleset(f tunnel.Filter) []chain {
	chains := []chain{
		{name: "prerouting", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityMangle, rules: arriving(f)},
		{name: "input", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: nftables.ChainPriorityFilter, rules: input(f)},
		{name: "forward", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityFilter, rules: forward(f)},
	}
	if !f.Forward && len(f.Subnets) == 0 {
		return chains
	}
	return append(chains,
		chain{name: "clamp", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityMangle, rules: clamp(f)},
		chain{name: "postrouting", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource, rules: leaving(f)},
	)
}

// clamp keeps TCP below what the device carries, in both directions, and below
// what the routes of both ends carry: those may know a smaller path.
func clamp(f tunnel.Filter) []rule {
	var rules []rule
	for _, which := range []string{"iifname", "oifname"} {
		dev := ifname(which, false, f.Interface)
		rules = append(rules, rule{dev, v4(), proto("tcp"), syn(), maxSegment(mtu(f) - 40)}) // the headers of IPv4 and TCP
		if f.Self6.IsValid() {
			rules = append(rules, rule{dev, v6(), proto("tcp"), syn(), maxSegment(mtu(f) - 60)}) // of IPv6 and TCP
		}
		rules = append(rules, rule{dev, proto("tcp"), syn(), routeSegment()})
	}
	return rules
}

// leaving replaces sources. Members have routes to members only, so what comes
// from elsewhere has to look as if it came from here; and the machines of a
// subnet have no routes to members, so what goes there has to as well.
func leaving(f tunnel.Filter) []rule {
	var rules []rule
	if f.Forward {
		rules = append(rules, rule{ifname("oifname", false, f.Interface), v4(), addr("saddr", true, f.Mesh), snat(f.Self)})
	}
	for _, n := range f.Subnets {
		rules = append(rules, rule{ifname("oifname", true, f.Interface), v4(), addr("saddr", false, f.Mesh), addr("daddr", false, n), masquerade()})
	}
	return rules
}

// ends are the own address and the mesh in each family that the overlay has,
// with the gateways' addresses in it.
type ends struct {
	self     netip.Addr
	mesh     netip.Prefix
	gateways []netip.Addr
}

func families(f tunnel.Filter) []ends {
	all := []ends{{f.Self, f.Mesh, f.Gateways}}
	if !f.Self6.IsValid() {
		return all
	}
	six := ends{self: f.Self6, mesh: f.Mesh6}
	for _, g := range f.Gateways {
		six.gateways = append(six.gateways, tunnel.Addr6(f.Mesh6, g))
	}
	return append(all, six)
}

// arriving judges what comes out of the tunnel.
func arriving(f tunnel.Filter) []rule {
	in := ifname("iifname", false, f.Interface)
	rules := []rule{{in, established(), accept()}}
	for _, e := range families(f) {
		fam, self, mesh := of(e.self), addr("daddr", false, one(e.self)), addr("saddr", false, e.mesh)
		if f.Forward { // for another member: the forward chain's matter
			rules = append(rules, rule{in, fam, addr("daddr", true, one(e.self)), addr("daddr", false, e.mesh), accept()})
		}
		if e.self.Is4() {
			rules = append(rules, rule{in, fam, self, proto("icmp"), echo(), accept()})
		} else {
			rules = append(rules, rule{in, fam, mesh, self, proto("ipv6-icmp"), icmp6(), accept()})
		}
		if len(f.Control) > 0 {
			for _, p := range []string{"tcp", "udp"} {
				rules = append(rules, rule{in, fam, mesh, self, proto(p), dport(f.Control), accept()})
			}
		}
		if len(f.Services) > 0 && len(e.gateways) > 0 {
			rules = append(rules, rule{in, fam, sources(e.gateways), self, proto("tcp"), dport(f.Services), accept()})
		}
	}
	for _, n := range f.Subnets { // the forward chain's matter too
		if len(f.Gateways) > 0 {
			rules = append(rules, rule{in, v4(), sources(f.Gateways), addr("daddr", false, n), accept()})
		}
	}
	return append(rules, rule{in, drop()})
}

// input keeps the underlay from the overlay addresses. Linux answers for any of
// its addresses on any interface; a neighbour must neither reach what listens
// on an overlay address nor send in a member's name. A gateway's own services
// are load balancer targets like others, so those stay open, in IPv4: a VPC
// has no way to an overlay address in IPv6.
func input(f tunnel.Filter) []rule {
	out, lo := ifname("iifname", true, f.Interface), ifname("iifname", true, "lo")
	var rules []rule
	for _, e := range families(f) {
		fam, self := of(e.self), addr("daddr", false, one(e.self))
		rules = append(rules, rule{out, lo, fam, addr("saddr", false, e.mesh), drop()})
		if f.Forward && e.self.Is4() {
			rules = append(rules, rule{out, lo, fam, self, established(), accept()})
			if len(f.Services) > 0 {
				rules = append(rules, rule{out, lo, fam, self, proto("tcp"), dport(f.Services), accept()})
			}
		}
		rules = append(rules, rule{out, lo, fam, self, drop()})
	}
	for _, n := range f.Subnets { // an own address there is no machine behind this one
		rules = append(rules, rule{ifname("iifname", false, f.Interface), v4(), addr("daddr", false, n), drop()})
	}
	return rules
}

func forward(f tunnel.Filter) []rule {
	in, out := ifname("iifname", false, f.Interface), ifname("oifname", false, f.Interface)
	other, away := ifname("iifname", true, f.Interface), ifname("oifname", true, f.Interface)
	var rules []rule
	for _, e := range families(f) {
		fam, from, to := of(e.self), addr("saddr", false, e.mesh), addr("daddr", false, e.mesh)
		rules = append(rules, rule{other, out, fam, from, drop()})
		if f.Forward {
			rules = append(rules, rule{in, out, fam, from, to, accept()})
		}
	}
	if f.Forward {
		// The way of the load balancer: to members and, where this gateway has a
		// route through the device, to what lies behind them. IPv4 only.
		rules = append(rules, rule{other, out, v4(), accept()})
	}
	rules = append(rules,
		rule{in, established(), accept()},
		// A service in a container: prerouting let it in by its own port,
		// then the host translated the destination.
		rule{in, translated(), accept()},
		rule{other, out, established(), accept()}, // its answers, and those of subnets
	)
	for _, n := range f.Subnets {
		if len(f.Gateways) > 0 {
			rules = append(rules, rule{in, away, v4(), sources(f.Gateways), addr("daddr", false, n), accept()})
		}
	}
	return append(rules, rule{in, drop()}, rule{out, drop()})
}

func mtu(f tunnel.Filter) int {
	if f.MTU == 0 {
		return tunnel.DefaultMTU
	}
	return f.MTU
}

// check refuses a wish from which no sound table can be made.
func check(f tunnel.Filter) error {
	switch {
	case f.Interface == "" || len(f.Interface) >= unix.IFNAMSIZ:
		return fmt.Errorf("check filter: interface name %q is not 1 to 15 bytes long", f.Interface)
	case !f.Mesh.IsValid() || !f.Mesh.Addr().Is4() || !f.Self.Is4() || !f.Mesh.Contains(f.Self):
		return fmt.Errorf("check filter: %v is no IPv4 address of the mesh prefix %v", f.Self, f.Mesh)
	case mtu(f) < 576 || mtu(f) > 65535:
		return fmt.Errorf("check filter: MTU %d is not between 576 and 65535", f.MTU)
	}
	if err := checkMore(f); err != nil {
		return err
	}
	for _, g := range f.Gateways {
		if !f.Mesh.Contains(g) {
			return fmt.Errorf("check filter: gateway %v is outside the mesh prefix %v", g, f.Mesh)
		}
	}
	for _, list := range [][]uint16{f.Control, f.Services} {
		for _, p := range list {
			if p == 0 {
				return errors.New("check filter: 0 is no port")
			}
		}
	}
	return nil
}

// checkMore holds what is not in every wish: IPv6 and subnets.
func checkMore(f tunnel.Filter) error {
	if (f.Self6.IsValid() || f.Mesh6.IsValid()) && (!f.Self6.Is6() || f.Mesh6.Bits() != 64 || !f.Mesh6.Contains(f.Self6)) {
		return fmt.Errorf("check filter: %v is no IPv6 address of the mesh prefix %v", f.Self6, f.Mesh6)
	}
	for _, n := range f.Subnets {
		if !n.IsValid() || !n.Addr().Is4() || n.Bits() == 0 || n.Overlaps(f.Mesh) {
			return fmt.Errorf("check filter: subnet %v is no IPv4 prefix outside the mesh prefix %v", n, f.Mesh)
		}
	}
	return nil
}

// text prints a table in the manner of the nft program.
func text(chains []chain) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", tableName)
	for _, c := range chains {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d; policy accept;\n", c.name, c.kind, hooks[*c.hook], *c.priority)
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

var hooks = map[nftables.ChainHook]string{
	*nftables.ChainHookPrerouting: "prerouting",
	*nftables.ChainHookInput:      "input", *nftables.ChainHookForward: "forward", *nftables.ChainHookPostrouting: "postrouting",
}
