package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"drawbridge/discovery"
)

// MaxSubnets bounds the networks behind one node.
const MaxSubnets = 16

// oidSubnets marks the extension with the networks behind a node: an OCTET
// STRING with five bytes for each, address and length, in ascending order; not
// critical, and absent where there are none. It is the number after oidRenewer.
//
// RFC 3779 has a standard extension for this. It is not used, because whoever
// verifies it (openssl does) wants to see it all the way up to the root: a root
// would have to name every network that any node will ever stand before.
var oidSubnets = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 27340, 30769, 41601, 18723, 42369, 15168815, 14690166}

// The ranges that subnets may be in (RFC 1918). Those of 100.64.0.0/10 belong to
// carriers and other overlays, public ones to others.
var subnetRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// CheckSubnets checks the networks behind a node: at most [MaxSubnets], sorted,
// masked, private IPv4, none within another or in the mesh prefix. A mesh that
// is not known (the zero value) is not looked at.
func CheckSubnets(mesh netip.Prefix, list []netip.Prefix) error {
	if len(list) > MaxSubnets {
		return fmt.Errorf("%d subnets, at most %d", len(list), MaxSubnets)
	}
	for i, p := range list {
		switch {
		case !p.IsValid() || !p.Addr().Is4():
			return fmt.Errorf("subnet %s: want an IPv4 network such as 192.168.20.0/24", p)
		case p != p.Masked():
			return fmt.Errorf("subnet %s: has host bits, did you mean %s?", p, p.Masked())
		case !slices.ContainsFunc(subnetRanges, func(r netip.Prefix) bool { return r.Contains(p.Addr()) && p.Bits() >= r.Bits() }):
			return fmt.Errorf("subnet %s: not within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16", p)
		case p.Overlaps(mesh):
			return fmt.Errorf("subnet %s: overlaps the mesh prefix %s", p, mesh)
		case i > 0 && p.Overlaps(list[i-1]):
			return fmt.Errorf("subnets %s and %s overlap", list[i-1], p)
		case i > 0 && !list[i-1].Addr().Less(p.Addr()):
			return fmt.Errorf("subnets %s and %s are not in order", list[i-1], p)
		}
	}
	return nil
}

// checkSubnets holds for what is issued and for what is verified.
func (c Claims) checkSubnets(block netip.Prefix) error {
	if len(c.Subnets) > 0 && c.Role != discovery.RoleServer {
		return errors.New("subnets are behind servers only")
	}
	mesh := netip.PrefixFrom(block.Addr(), max(0, block.Bits()-BlockBits)).Masked()
	return CheckSubnets(mesh, c.Subnets)
}

// subnetsExtension is what a certificate says of subnets; empty for none.
func subnetsExtension(list []netip.Prefix) ([]pkix.Extension, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var b []byte
	for _, p := range list {
		a := p.Addr().As4()
		b = append(append(b, a[:]...), byte(p.Bits()))
	}
	value, err := asn1.Marshal(b)
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{{Id: oidSubnets, Value: value}}, nil
}

// subnetsOf reads the extension; its rules are checked with the other claims.
func subnetsOf(leaf *x509.Certificate) ([]netip.Prefix, error) {
	var list []netip.Prefix
	found := false
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidSubnets) {
			continue
		}
		var b []byte
		rest, err := asn1.Unmarshal(e.Value, &b)
		if err != nil || len(rest) != 0 || len(b) == 0 || len(b)%5 != 0 || len(b)/5 > MaxSubnets || found || e.Critical {
			return nil, errors.New("malformed subnets")
		}
		found = true
		for ; len(b) > 0; b = b[5:] {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), int(b[4])))
		}
	}
	return list, nil
}
