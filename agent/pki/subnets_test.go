package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"drawbridge/discovery"
)

func nets(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func many(n int) []netip.Prefix {
	var out []netip.Prefix
	for i := range n {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24))
	}
	return out
}

func TestCheckSubnets(t *testing.T) {
	for _, tt := range []struct {
		list []netip.Prefix
		want string // in the error; "": none
	}{
		{nil, ""},
		{nets("192.168.20.0/24"), ""},
		{nets("10.0.0.0/16", "172.16.0.0/12", "192.168.0.0/16"), ""},
		{many(16), ""},
		{many(17), "at most 16"},
		{[]netip.Prefix{{}}, "IPv4 network"},
		{nets("fd00::/64"), "IPv4 network"},
		{nets("192.168.20.7/24"), "did you mean 192.168.20.0/24"},
		{nets("0.0.0.0/0"), "not within"},
		{nets("172.0.0.0/8"), "not within"},
		{nets("8.8.8.0/24"), "not within"},
		{nets("100.64.0.0/24"), "not within"},
		{nets("10.86.16.0/24"), "overlaps the mesh prefix"},
		{nets("10.0.0.0/8"), "overlaps the mesh prefix"},
		{nets("192.168.0.0/16", "192.168.20.0/24"), "overlap"},
		{nets("192.168.20.0/24", "192.168.20.0/24"), "overlap"},
		{nets("192.168.21.0/24", "192.168.20.0/24"), "not in order"},
	} {
		err := CheckSubnets(testMesh.Prefix, tt.list)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v: %v, want %q", tt.list, err, tt.want)
		}
	}
	if err := CheckSubnets(netip.Prefix{}, nets("10.0.0.0/8")); err != nil {
		t.Errorf("no mesh: %v", err)
	}
}

func TestSubnetsAreCertified(t *testing.T) {
	p := newPKI(t, testMesh)
	c := testClaims()
	c.Subnets = nets("172.20.0.0/16", "192.168.20.0/24")
	chain := p.issue(t, c)
	for what, chain := range map[string][][]byte{"original": chain, "renewal": p.renew(t, chain), "renewal of a renewal": p.renew(t, p.renew(t, chain))} {
		id, _, err := Verify(chain, p.roots, "lab", testNow)
		if err != nil || !slices.Equal(id.Subnets, c.Subnets) {
			t.Errorf("%s: %v, %v", what, id.Subnets, err)
		}
	}
	none, err := IssueNode(p.issuer, testClaims(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(parsed(t, none).Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidSubnets) }) {
		t.Error("a certificate without subnets has the extension")
	}
	for name, change := range map[string]func(*Claims){
		"in the mesh":  func(c *Claims) { c.Subnets = nets("10.86.200.0/24") },
		"public":       func(c *Claims) { c.Subnets = nets("203.0.113.0/24") },
		"of a gateway": func(c *Claims) { c.Role, c.Addr = discovery.RoleGateway, netip.MustParseAddr("10.86.16.1") },
	} {
		c := c
		change(&c)
		if _, err := IssueNode(p.issuer, c, testNow); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

// subnetsValue is the extension as anybody could write it.
func subnetsValue(t *testing.T, list ...netip.Prefix) pkix.Extension {
	t.Helper()
	ext, err := subnetsExtension(list)
	if err != nil || len(ext) != 1 {
		t.Fatal(ext, err)
	}
	return ext[0]
}

func TestVerifyRefusesForgedSubnets(t *testing.T) {
	p := newPKI(t, testMesh)
	raw := func(b ...byte) pkix.Extension {
		v, _ := asn1.Marshal(b)
		return pkix.Extension{Id: oidSubnets, Value: v}
	}
	good := subnetsValue(t, nets("192.168.20.0/24")...)
	critical := good
	critical.Critical = true
	for name, ext := range map[string]pkix.Extension{
		"in the mesh":     subnetsValue(t, nets("10.86.3.0/24")...),
		"around the mesh": subnetsValue(t, nets("10.0.0.0/8")...),
		"everything":      subnetsValue(t, nets("0.0.0.0/0")...),
		"public":          subnetsValue(t, nets("203.0.113.0/24")...),
		"carrier's":       subnetsValue(t, nets("100.64.0.0/16")...),
		"unsorted":        subnetsValue(t, nets("192.168.21.0/24", "192.168.20.0/24")...),
		"twice":           subnetsValue(t, nets("192.168.20.0/24", "192.168.20.0/24")...),
		"seventeen":       subnetsValue(t, many(17)...),
		"host bits":       raw(192, 168, 20, 7, 24),
		"a long prefix":   raw(192, 168, 20, 0, 33),
		"empty":           raw(),
		"cut short":       raw(192, 168, 20, 0),
		"no octet string": {Id: oidSubnets, Value: asn1.NullBytes},
		"something more":  {Id: oidSubnets, Value: append(slices.Clone(good.Value), 0)},
		"critical":        critical,
	} {
		chain := p.chain(p.forge(t, p.issuer, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, ext) }))
		if id, _, err := Verify(chain, p.roots, "lab", testNow); !errors.Is(err, ErrClaims) && !errors.Is(err, ErrUntrusted) || id.ID != "" {
			t.Errorf("%s: %v, identity %q", name, err, id.ID)
		}
	}
	chain := p.chain(p.forge(t, p.issuer, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, good) }))
	if _, _, err := Verify(chain, p.roots, "lab", testNow); err != nil {
		t.Errorf("the good one must pass, or the table proves nothing: %v", err)
	}
}

// TestRenewalsAddNoSubnets: what another gateway extends has the subnets of the
// original, all of them and no more.
func TestRenewalsAddNoSubnets(t *testing.T) {
	p := newPKI(t, testMesh)
	c := testClaims()
	c.Subnets = nets("192.168.20.0/24")
	with, without := p.issue(t, c), p.issue(t, testClaims())
	for name, tt := range map[string]struct {
		first [][]byte
		exts  []pkix.Extension
		good  bool
	}{
		"the same":        {with, []pkix.Extension{subnetsValue(t, c.Subnets...)}, true},
		"one more":        {with, []pkix.Extension{subnetsValue(t, nets("192.168.20.0/24", "192.168.21.0/24")...)}, false},
		"a larger one":    {with, []pkix.Extension{subnetsValue(t, nets("192.168.0.0/16")...)}, false},
		"none any more":   {with, nil, false},
		"out of thin air": {without, []pkix.Extension{subnetsValue(t, c.Subnets...)}, false},
	} {
		leaf := p.forge(t, p.renewer, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, tt.exts...) })
		_, _, err := Verify([][]byte{leaf, p.renewer.Cert(), tt.first[0], tt.first[1]}, p.roots, "lab", testNow)
		if tt.good && err != nil || !tt.good && !errors.Is(err, ErrClaims) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenSSLTakesSubnets(t *testing.T) {
	o := newOpenSSL(t)
	p := newPKI(t, testMesh)
	c := testClaims()
	c.Subnets = nets("192.168.20.0/24")
	chain := p.issue(t, c)
	for _, chain := range [][][]byte{chain, p.renew(t, chain)} {
		if ok, out := o.chain(t, p.root.Cert(), chain, "-attime", fmt.Sprint(testNow.Unix())); !ok {
			t.Error(out)
		}
	}
}
