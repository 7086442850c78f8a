package conflict

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
)

// ownTable is what tunnel/nft writes; it is not in its own way.
const ownTable = "drawbridge"

// trial is a packet that has to pass, and what it is called if it does not.
type trial struct {
	kind   tunnel.ConflictKind
	hook   nftables.ChainHook
	what   string
	packet packet
}

// trials are the packets that matter to this node. What is not known of one is
// left open.
func trials(w Wish) []trial {
	ours, others := interfaceOf(w.Interface), iface{not: []string{w.Interface, "lo"}}
	if l := towards(somewhere); l != "" && l != w.Interface {
		others = interfaceOf(l)
	}
	member := w.Mesh.Masked().Addr().Next().Next() // stands for any
	var list []trial
	add := func(kind tunnel.ConflictKind, hook *nftables.ChainHook, what string, p packet) {
		list = append(list, trial{kind, *hook, what, p})
	}
	for _, port := range w.Control {
		add(tunnel.ConflictInput, nftables.ChainHookInput, fmt.Sprintf("udp port %d", port), packet{in: ours, proto: unix.IPPROTO_UDP, src: member, dst: w.Self, dport: port})
	}
	for _, port := range w.Services {
		add(tunnel.ConflictInput, nftables.ChainHookInput, fmt.Sprintf("tcp port %d", port), packet{in: ours, proto: unix.IPPROTO_TCP, src: member, dst: w.Self, dport: port})
	}
	if w.Dialled && w.Port != 0 {
		add(tunnel.ConflictPort, nftables.ChainHookInput, fmt.Sprintf("udp port %d", w.Port), packet{in: others, proto: unix.IPPROTO_UDP, dport: w.Port})
		add(tunnel.ConflictPort, nftables.ChainHookInput, fmt.Sprintf("tcp port %d", w.Port), packet{in: others, proto: unix.IPPROTO_TCP, dport: w.Port})
	}
	if w.Forward {
		add(tunnel.ConflictForward, nftables.ChainHookForward, "the underlay into the mesh", packet{in: others, out: ours, proto: unix.IPPROTO_TCP, dst: member})
		add(tunnel.ConflictForward, nftables.ChainHookForward, "members to one another", packet{in: ours, out: ours, proto: unix.IPPROTO_UDP, src: member, dst: member.Next()})
	}
	for _, n := range w.Subnets {
		add(tunnel.ConflictForward, nftables.ChainHookForward, "the mesh into "+n.String(), packet{in: ours, out: behind(n, w.Interface), proto: unix.IPPROTO_TCP, src: member, dst: n.Masked().Addr().Next()})
	}
	return list
}

// somewhere is an address that nobody has (RFC 5737): the way to it is that of
// the underlay.
var somewhere = netip.MustParseAddr("192.0.2.1")

// behind is the interface to a subnet.
func behind(n netip.Prefix, own string) iface {
	if l := towards(n.Masked().Addr().Next()); l != "" && l != own {
		return interfaceOf(l)
	}
	return iface{not: []string{own, "lo"}}
}

// towards is the interface by which an address is reached; "" for none.
func towards(a netip.Addr) string {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return ""
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return l.Attrs().Name
}

func interfaceOf(name string) iface {
	i := iface{name: name}
	if l, err := netlink.LinkByName(name); err == nil {
		i.index = l.Attrs().Index
	}
	return i
}

// firewalls tries every packet at every chain of others.
func firewalls(w Wish) ([]tunnel.Conflict, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChains()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, os.ErrNotExist) {
		return nil, nil // nobody to read for, or nothing to read
	}
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	names := map[string]bool{}
	for _, ch := range chains {
		names[ch.Table.Name], names[ch.Name] = true, true
	}
	r := reader{conn: c, rules: map[chainID][]*nftables.Rule{}, sets: map[setID]*set{}}
	var out []tunnel.Conflict
	for _, t := range trials(w) {
		for _, ch := range chains {
			if ch.Table.Name == ownTable || !ipv4(ch.Table.Family) || ch.Hooknum == nil || *ch.Hooknum != t.hook || ch.Type != nftables.ChainTypeFilter {
				continue
			}
			if !r.mayPass(ch, &t.packet) {
				subject := fmt.Sprintf("%s %s %s", familyName(ch.Table.Family), ch.Table.Name, ch.Name)
				out = append(out, conflictOf(t.kind, subject, t.what, program(ch, names)))
			}
		}
	}
	return out, nil
}

func ipv4(f nftables.TableFamily) bool {
	return f == nftables.TableFamilyINet || f == nftables.TableFamilyIPv4
}

func familyName(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}

// program tells by its marks whose chain it is. The tables of iptables are
// everybody's, so there the chains of the best known are looked for.
func program(ch *nftables.Chain, names map[string]bool) string {
	switch {
	case ch.Table.Name == "firewalld":
		return "firewalld"
	case strings.HasPrefix(ch.Table.Name, "docker"):
		return "docker"
	case ch.Table.Name != "filter":
		return ""
	case names["ufw-user-input"]:
		return "ufw"
	case names["DOCKER-USER"] && *ch.Hooknum == *nftables.ChainHookForward:
		return "docker"
	}
	return ""
}

// tailscaleChain is a chain that a tailscaled made; "" without one.
func tailscaleChain() string {
	c, err := nftables.New()
	if err != nil {
		return ""
	}
	chains, err := c.ListChains()
	if err != nil {
		return ""
	}
	for _, ch := range chains {
		if ch.Name == "ts-input" || ch.Name == "ts-forward" {
			return "chain " + ch.Name
		}
	}
	return ""
}

// packet opens a connection. What is not set is not known.
type packet struct {
	in, out  iface
	proto    byte
	src, dst netip.Addr
	dport    uint16
}

// iface is an interface by name, or any but some.
type iface struct {
	name  string
	index int // 0: not known
	not   []string
}
