package config

import (
	"net/netip"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"drawbridge/tunnel"
)

// maxSubnets is what a certificate holds.
const maxSubnets = 16

// readSubnets reads a list of networks. Whether they lie in the mesh prefix is
// not known here: the certificate's issuer looks at that.
func readSubnets(s *section, key string, into *[]netip.Prefix) {
	list(s, key, into, subnet)
	if len(*into) > maxSubnets {
		s.fail(key, "%d networks, at most %d", len(*into), maxSubnets)
	}
	slices.SortFunc(*into, tunnel.ComparePrefix)
	for i := 1; i < len(*into); i++ {
		if a, b := (*into)[i-1], (*into)[i]; a.Overlaps(b) {
			s.fail(key, "%s and %s overlap", a, b)
		}
	}
}

// The private ranges of RFC 1918.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
}

// subnet wants a private IPv4 network.
func subnet(w word) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(w.text)
	switch {
	case w.kind != ast.StringType || err != nil || !p.Addr().Is4():
		return netip.Prefix{}, "an IPv4 network, like 192.168.20.0/24"
	case p != p.Masked():
		return netip.Prefix{}, "a network without host bits, " + p.Masked().String()
	case !slices.ContainsFunc(private, func(r netip.Prefix) bool { return r.Contains(p.Addr()) && p.Bits() >= r.Bits() }):
		return netip.Prefix{}, "a network within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
	}
	return p, ""
}
