package pki

import (
	"fmt"
	"net/netip"
	"strings"

	"drawbridge/discovery"
)

// BlockBits is how much longer a gateway's block is than the mesh prefix: a
// mesh has room for sixteen gateways.
const BlockBits = 4

// CheckLabel checks a name that becomes part of a DNS name: 1 to 63 lower-case
// letters, digits and inner hyphens (RFC 1123, section 2.1).
func CheckLabel(what, s string) error {
	bad := s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-'
	for _, r := range s {
		bad = bad || !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if bad {
		return fmt.Errorf("%s %q: want 1 to 63 lower-case letters, digits and inner hyphens", what, clip(s))
	}
	return nil
}

// CheckDomain checks a DNS domain: labels with dots between, at most 189
// bytes, so that a name in it fits DNS (RFC 1035, section 2.3.4).
func CheckDomain(s string) error {
	if len(s) > 253-64 {
		return fmt.Errorf("domain %q: longer than 189 bytes", clip(s))
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := CheckLabel("domain label", label); err != nil {
			return fmt.Errorf("domain %q: %w", clip(s), err)
		}
	}
	return nil
}

// CheckRole checks that a role is one of ours.
func CheckRole(r discovery.Role) error {
	if r != discovery.RoleGateway && r != discovery.RoleServer {
		return fmt.Errorf("role %q: want %q or %q", clip(string(r)), discovery.RoleServer, discovery.RoleGateway)
	}
	return nil
}

// The ranges that ELB takes as IP targets outside the VPC (CreateTargetGroup:
// RFC 1918 and RFC 6598).
var targetRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// CheckPrefix checks a mesh prefix: masked IPv4, /8 to /24, in a range whose
// addresses ELB accepts as targets.
func CheckPrefix(p netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is4() {
		return fmt.Errorf("mesh prefix %s: want an IPv4 prefix such as 10.86.0.0/16", p)
	}
	if p != p.Masked() {
		return fmt.Errorf("mesh prefix %s: has host bits, did you mean %s?", p, p.Masked())
	}
	if p.Bits() < 8 || p.Bits() > 24 {
		return fmt.Errorf("mesh prefix %s: want a length of /8 to /24", p)
	}
	for _, r := range targetRanges {
		if r.Contains(p.Addr()) && p.Bits() >= r.Bits() {
			return nil
		}
	}
	return fmt.Errorf("mesh prefix %s: load balancers take only targets in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and 100.64.0.0/10", p)
}

func (m Mesh) check() error {
	if err := CheckLabel("mesh name", m.Name); err != nil {
		return err
	}
	if err := CheckDomain(m.Domain); err != nil {
		return err
	}
	return CheckPrefix(m.Prefix)
}

// Block is the nth block of a mesh prefix; false when n is not 0 to 15.
func Block(mesh netip.Prefix, n int) (netip.Prefix, bool) {
	bits := mesh.Bits() + BlockBits
	if !mesh.Addr().Is4() || n < 0 || n >= 1<<BlockBits || bits > 32 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(fromUint(toUint(mesh.Masked().Addr())+uint32(n)<<(32-bits)), bits), true
}

// checkBlock checks that block is one of the mesh prefix's blocks.
func checkBlock(mesh, block netip.Prefix) error {
	if !block.IsValid() || !block.Addr().Is4() || block != block.Masked() ||
		block.Bits() != mesh.Bits()+BlockBits || !mesh.Contains(block.Addr()) {
		return fmt.Errorf("%s is not a block of the mesh prefix %s", block, mesh)
	}
	return nil
}

// FirstAddr is the first usable address of a block: its gateway's.
func FirstAddr(block netip.Prefix) netip.Addr { return block.Masked().Addr().Next() }

// lastAddr is the last address of a block, which nobody gets.
func lastAddr(block netip.Prefix) netip.Addr {
	return fromUint(toUint(block.Masked().Addr()) | (1<<(32-block.Bits()) - 1))
}

// NextAddr is the lowest address of a block for a server that taken does not
// claim; false when there is none.
func NextAddr(block netip.Prefix, taken func(netip.Addr) bool) (netip.Addr, bool) {
	last := lastAddr(block)
	for a := FirstAddr(block).Next(); a.Less(last); a = a.Next() {
		if !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func fromUint(u uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(u >> 24), byte(u >> 16), byte(u >> 8), byte(u)})
}

// clip bounds what strangers get into our error texts.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
