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
	dev := f.Interface
	chains := []chain{
		{name: "prerouting", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityMangle, rules: arriving(f)},
		{name: "input", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: nftables.ChainPriorityFilter, rules: input(f)},
		{name: "forward", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityFilter, rules: forward(f)},
	}
	if !f.Forward {
		return chains
	}
	size := mtu(f) - 40 // the headers of IPv4 and TCP
	return append(chains,
		chain{name: "clamp", kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityMangle, rules: []rule{
			{ifname("iifname", false, dev), proto("tcp"), syn(), maxSegment(size)},
			{ifname("oifname", false, dev), proto("tcp"), syn(), maxSegment(size)},
		}},
		// Members have routes to members only, so what comes from elsewhere
		// has to look as if it came from here.
		chain{name: "postrouting", kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource, rules: []rule{
			{ifname("oifname", false, dev), v4(), addr("saddr", true, f.Mesh), snat(f.Self)},
		}},
	)
}

// arriving judges what comes out of the tunnel.
func arriving(f tunnel.Filter) []rule {
	in, self := ifname("iifname", false, f.Interface), addr("daddr", false, netip.PrefixFrom(f.Self, 32))
	rules := []rule{{in, established(), accept()}}
	if f.Forward { // for another member: the forward chain's matter
		rules = append(rules, rule{in, v4(), addr("daddr", true, netip.PrefixFrom(f.Self, 32)), addr("daddr", false, f.Mesh), accept()})
	}
	rules = append(rules, rule{in, v4(), self, proto("icmp"), echo(), accept()})
	if len(f.Control) > 0 {
		for _, p := range []string{"tcp", "udp"} {
			rules = append(rules, rule{in, v4(), addr("saddr", false, f.Mesh), self, proto(p), dport(f.Control), accept()})
		}
	}
	if len(f.Services) > 0 && len(f.Gateways) > 0 {
		rules = append(rules, rule{in, v4(), sources(f.Gateways), self, proto("tcp"), dport(f.Services), accept()})
	}
	return append(rules, rule{in, drop()})
}

// input keeps the underlay from the overlay address. Linux answers for any of
// its addresses on any interface; a neighbour must neither reach what listens
// on the overlay address nor send in a member's name. A gateway's own services
// are load balancer targets like others, so those stay open.
func input(f tunnel.Filter) []rule {
	out, lo := ifname("iifname", true, f.Interface), ifname("iifname", true, "lo")
	self := addr("daddr", false, netip.PrefixFrom(f.Self, 32))
	rules := []rule{{out, lo, v4(), addr("saddr", false, f.Mesh), drop()}}
	if f.Forward {
		rules = append(rules, rule{out, lo, v4(), self, established(), accept()})
		if len(f.Services) > 0 {
			rules = append(rules, rule{out, lo, v4(), self, proto("tcp"), dport(f.Services), accept()})
		}
	}
	return append(rules, rule{out, lo, v4(), self, drop()})
}

func forward(f tunnel.Filter) []rule {
	in, out, other := ifname("iifname", false, f.Interface), ifname("oifname", false, f.Interface), ifname("iifname", true, f.Interface)
	rules := []rule{{other, out, v4(), addr("saddr", false, f.Mesh), drop()}}
	if f.Forward {
		rules = append(rules,
			rule{in, out, v4(), addr("saddr", false, f.Mesh), addr("daddr", false, f.Mesh), accept()},
			rule{other, out, v4(), accept()},
		)
	}
	return append(rules,
		rule{in, established(), accept()},
		// A service in a container: prerouting let it in by its own port,
		// then the host translated the destination.
		rule{in, translated(), accept()},
		rule{other, out, established(), accept()}, // its answers
		rule{in, drop()},
		rule{out, drop()},
	)
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
