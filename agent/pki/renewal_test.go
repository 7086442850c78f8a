package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

const day = 24 * time.Hour

func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := parseCert(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func prefixOf(t testing.TB, c *x509.Certificate) netip.Prefix {
	t.Helper()
	_, prefix, err := constraints(c)
	if err != nil {
		t.Fatal(err)
	}
	return prefix
}

func newSigner(t testing.TB, key ed25519.PrivateKey, der []byte, err error) *Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(der, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p pkiTest) renew(t testing.TB, chain [][]byte) [][]byte {
	t.Helper()
	return p.renewAt(t, chain, testNow)
}

func (p pkiTest) renewAt(t testing.TB, chain [][]byte, now time.Time) [][]byte {
	t.Helper()
	renewed, err := RenewNode(p.renewer, chain, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	return renewed
}

// successor is the mesh under its next root: no gateway is certified by it yet.
func (p pkiTest) successor(t testing.TB, now time.Time) pkiTest {
	t.Helper()
	key := seeded(20)
	der, err := Successor(p.root.Cert(), key, now)
	p.root = newSigner(t, key, der, err)
	if p.roots, err = NewRoots(der); err != nil {
		t.Fatal(err)
	}
	p.issuer, p.renewer = nil, nil
	return p
}

func TestRenewalsGoOn(t *testing.T) {
	p := newPKI(t, testMesh)
	chain := p.issue(t, testClaims())
	first := chain[:2]
	// gw-b certified the node and is lost; gw-c renews it for months.
	for now := testNow.Add(15 * day); now.Before(testNow.Add(300 * day)); now = now.Add(15 * day) {
		id, key, err := Verify(chain, p.roots, "lab", now)
		if err != nil {
			t.Fatalf("%s: %v", now, err)
		}
		chain = p.renewAt(t, chain, now)
		id.NotAfter = now.Add(NodeLife)
		again, key2, err := Verify(chain, p.roots, "lab", now)
		if err != nil {
			t.Fatalf("%s: %v", now, err)
		}
		if diff := cmp.Diff(id, again, anyAddr); diff != "" || !key.Equal(key2) {
			t.Errorf("(-before +after)\n%s", diff)
		}
	}
	if got := Original(chain); !slices.EqualFunc(got, first, bytes.Equal) {
		t.Error("the original changed")
	}
	// The day after tomorrow nobody has renewed it.
	if id, _, err := Verify(chain, p.roots, "lab", testNow.Add(400*day)); !errors.Is(err, ErrExpired) || id.Name != "gpu-1" {
		t.Errorf("got %v for %q", err, id.Name)
	}
}

// TestRenewalInventsNothing: whatever a gateway says with its renewer, beyond
// what another gateway certified, is refused.
func TestRenewalInventsNothing(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	good := p.issue(t, testClaims())
	gateway := testClaims()
	gateway.Role, gateway.Addr, gateway.Name = discovery.RoleGateway, FirstAddr(prefixOf(t, p.issuer.cert)), "gw-b"
	gatewayChain := p.issue(t, gateway)
	renewal := func(change func(*x509.Certificate)) [][]byte {
		return [][]byte{p.forge(t, p.renewer, change), p.renewer.Cert(), good[0], good[1]}
	}
	renewed := p.renew(t, good)
	otherKey := func() []byte {
		tmpl := *parsed(t, renewed[0])
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidWireGuard, Value: wireGuardValue(t, testWG)}}
		der, err := x509.CreateCertificate(nil, &tmpl, p.renewer.cert, seeded(9).Public(), p.renewer.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}()
	// A gateway whose renewer certificate lies about what it may renew.
	mark := []pkix.Extension{{Id: oidRenewer, Value: asn1.NullBytes}}
	narrow := p.forgedRenewer(t, func(c *x509.Certificate) {
		c.ExtraExtensions = mark
		c.PermittedIPRanges[0] = &net.IPNet{IP: net.IPv4(10, 86, 16, 0).To4(), Mask: net.CIDRMask(20, 32)}
	})
	deep := p.forgedRenewer(t, func(c *x509.Certificate) { c.ExtraExtensions, c.MaxPathLen, c.MaxPathLenZero = mark, 1, false })
	odd := p.forgedRenewer(t, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidRenewer, Value: []byte{1, 1, 0xff}}}
	})
	critical := p.forgedRenewer(t, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidRenewer, Value: asn1.NullBytes, Critical: true}}
	})
	plain := p.forgedRenewer(t, func(*x509.Certificate) {})
	under := func(s *Signer) [][]byte {
		return [][]byte{p.forge(t, s, func(*x509.Certificate) {}), s.Cert(), good[0], good[1]}
	}
	for _, tt := range []struct {
		name  string
		chain [][]byte
		want  error
	}{
		{"no original", renewed[:2], ErrUntrusted},
		{"no issuer of the original", renewed[:3], ErrUntrusted},
		{"a root in the original's place", [][]byte{renewed[0], renewed[1], p.root.Cert()}, ErrUntrusted},
		{"itself as the original", [][]byte{renewed[0], renewed[1], renewed[0], renewed[1]}, ErrClaims},
		{"an older renewal as the original", [][]byte{p.renewAt(t, good, testNow.Add(day))[0], renewed[1], renewed[0], renewed[1], good[0], good[1]}, ErrClaims},
		{"the original of another node", func() [][]byte {
			c := testClaims()
			c.Name, c.Addr, c.Identity = "gpu-2", netip.MustParseAddr("10.86.16.3"), public(seeded(8))
			return append(renewed[:2:2], p.issue(t, c)[:2]...)
		}(), ErrClaims},
		{"another identity key", append([][]byte{otherKey}, renewed[1:]...), ErrClaims},
		{"another WireGuard key", renewal(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = wireGuardValue(t, [32]byte{8}) }), ErrClaims},
		{"another address", renewal(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 16, 3)} }), ErrClaims},
		{"the address of a gateway", renewal(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 0, 1)} }), ErrClaims},
		{"another name", renewal(func(c *x509.Certificate) {
			c.DNSNames, c.URIs = []string{"gpu-2.lab.mesh"}, uri("/site/idc-seoul/server/gpu-2")
		}), ErrClaims},
		{"another DNS name", renewal(func(c *x509.Certificate) { c.DNSNames = []string{"gpu-2.lab.mesh"} }), ErrClaims},
		{"another site", renewal(func(c *x509.Certificate) { c.URIs = uri("/site/idc-tokyo/server/gpu-1") }), ErrClaims},
		{"another role", renewal(func(c *x509.Certificate) { c.URIs = uri("/site/idc-seoul/gateway/gpu-1") }), ErrClaims},
		{"two addresses", renewal(func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 86, 16, 3)) }), ErrClaims},
		{"a CA", renewal(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }), ErrClaims},
		{"a long life", renewal(func(c *x509.Certificate) { c.NotAfter = testNow.Add(MaxNodeLife + Backdate + time.Second) }), ErrClaims},
		{"outlives its renewer", renewal(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = testNow.Add(IssuerLife-day), testNow.Add(IssuerLife+day)
		}), ErrClaims},
		{"a gateway's", [][]byte{p.forge(t, p.renewer, func(c *x509.Certificate) {
			c.DNSNames, c.URIs, c.IPAddresses = []string{"gw-b.lab.mesh"}, uri("/site/idc-seoul/gateway/gw-b"), []net.IP{net.IPv4(10, 86, 16, 1)}
		}), p.renewer.Cert(), gatewayChain[0], gatewayChain[1]}, ErrClaims},
		{"another renewer than its signer", [][]byte{renewed[0], other.renewer.Cert(), good[0], good[1]}, ErrUntrusted},
		{"the issuer in the renewer's place", [][]byte{renewed[0], p.issuer.Cert(), good[0], good[1]}, ErrUntrusted},
		{"an original under a forged issuer", append(renewed[:2:2], p.forge(t, other.issuer, func(*x509.Certificate) {}), other.issuer.Cert()), ErrUntrusted},
		{"a renewer for one block", under(narrow), ErrClaims},
		{"a renewer with a path", under(deep), ErrClaims},
		{"a renewer with a malformed mark", under(odd), ErrUntrusted},
		{"a renewer with a critical mark", under(critical), ErrUntrusted},
		{"an issuer for the whole mesh", under(plain), ErrClaims},
		{"seven certificates", append(append([][]byte{}, renewed...), good...), ErrUntrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, key, err := Verify(tt.chain, p.roots, "lab", testNow)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if !reflect.DeepEqual(id, discovery.Identity{}) || key != nil {
				t.Errorf("identity with an error: %+v", id)
			}
		})
	}
	for name, chain := range map[string][][]byte{
		"as issued":         renewed,
		"with a root":       append(slices.Clone(renewed), p.root.Cert()),
		"with two roots":    append(slices.Clone(renewed), p.root.Cert(), other.root.Cert()),
		"forged in no way":  renewal(func(*x509.Certificate) {}),
		"original, 5 certs": append(p.chain(good[0]), other.issuer.Cert(), other.root.Cert()),
	} {
		if _, _, err := Verify(chain, p.roots, "lab", testNow); err != nil {
			t.Errorf("%s must pass, or the table proves nothing: %v", name, err)
		}
	}
	if _, _, err := Verify(renewed, p.roots, "prod", testNow); !errors.Is(err, ErrClaims) {
		t.Errorf("another mesh: %v", err)
	}
}

func wireGuardValue(t testing.TB, key [32]byte) []byte {
	t.Helper()
	b, err := asn1.Marshal(key[:])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// forgedRenewer is signed by the root, but not in our form.
func (p pkiTest) forgedRenewer(t testing.TB, change func(*x509.Certificate)) *Signer {
	t.Helper()
	tmpl := authority("lab mesh renewer gw-x", testNow.Add(-Backdate), testNow.Add(IssuerLife), testMesh.Prefix, testMesh)
	tmpl.MaxPathLenZero = true
	change(tmpl)
	der, err := sign(tmpl, p.root.cert, public(seeded(5)), p.root.key)
	return newSigner(t, seeded(5), der, err)
}

func TestRenewNodeRefuses(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, Mesh{Name: "prod", Domain: "prod.mesh", Prefix: testMesh.Prefix})
	good := p.issue(t, testClaims())
	gateway := testClaims()
	gateway.Role, gateway.Addr, gateway.Name = discovery.RoleGateway, FirstAddr(prefixOf(t, p.issuer.cert)), "gw-b"
	for _, tt := range []struct {
		name  string
		by    *Signer
		chain [][]byte
		life  time.Duration
		now   time.Time
	}{
		{"by an issuer", p.issuer, good, 0, testNow},
		{"by a root", p.root, good, 0, testNow},
		{"by another mesh", other.renewer, good, 0, testNow},
		{"by an expired renewer", p.renewer, good, 0, testNow.Add(IssuerLife + time.Second)},
		{"a gateway", p.renewer, p.issue(t, gateway), 0, testNow},
		{"nothing", p.renewer, nil, 0, testNow},
		{"a node without issuer", p.renewer, good[:1], 0, testNow},
		{"a renewal without original", p.renewer, p.renew(t, good)[:2], 0, testNow},
		{"an original of another issuer", p.renewer, [][]byte{good[0], other.issuer.Cert()}, 0, testNow},
		{"rubbish", p.renewer, [][]byte{{1}, {2}}, 0, testNow},
		{"too short a life", p.renewer, good, MinNodeLife - 1, testNow},
		{"too long a life", p.renewer, good, MaxNodeLife + 1, testNow},
		{"a negative life", p.renewer, good, -time.Hour, testNow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if chain, err := RenewNode(tt.by, tt.chain, tt.life, tt.now); err == nil || chain != nil {
				t.Errorf("renewed: %v", err)
			}
		})
	}
	if _, err := IssueNode(p.renewer, testClaims(), testNow); err == nil {
		t.Error("a renewer issued an original")
	}
}

func TestNewRenewer(t *testing.T) {
	p := newPKI(t, testMesh)
	for name, want := range map[string]bool{"renewer": true, "issuer": false, "root": false} {
		cert := map[string][]byte{"renewer": p.renewer.Cert(), "issuer": p.issuer.Cert(), "root": p.root.Cert()}[name]
		if got, err := IsRenewer(cert); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	critical := p.forgedRenewer(t, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidRenewer, Value: asn1.NullBytes, Critical: true}}
	})
	if _, err := IsRenewer(critical.Cert()); err == nil {
		t.Error("a critical mark was read")
	}
	if _, err := IsRenewer([]byte("rubbish")); err == nil {
		t.Error("rubbish was read")
	}
	if _, err := NewRenewer(p.issuer, public(seeded(3)), "gw-c", testNow); err == nil {
		t.Error("an issuer made a renewer")
	}
	if _, err := NewRenewer(p.root, public(seeded(3)), "gw c", testNow); err == nil {
		t.Error("a renewer with a bad name")
	}
	if _, err := NewRenewer(p.root, nil, "gw-c", testNow); err == nil {
		t.Error("a renewer without a key")
	}
	if _, err := NewRenewer(p.root, public(seeded(3)), "gw-c", testNow.Add(RootLife)); !errors.Is(err, ErrIssuerExpired) {
		t.Errorf("a renewer of an expired root: %v", err)
	}
	if _, err := BlockOf(p.renewer.Cert()); err == nil {
		t.Error("a renewer has a block")
	}
}

func TestCheckCA(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	for _, tt := range []struct {
		name string
		ca   []byte
		mesh string
		want error
	}{
		{"issuer", p.issuer.Cert(), "lab", nil},
		{"renewer", p.renewer.Cert(), "lab", nil},
		{"another mesh", p.issuer.Cert(), "prod", ErrClaims},
		{"another mesh's renewer", p.renewer.Cert(), "prod", ErrClaims},
		{"another root", other.issuer.Cert(), "lab", ErrUntrusted},
		{"issuer of the whole mesh", p.forgedIssuer(t, testMesh.Prefix).Cert(), "lab", ErrClaims},
		{"a node", p.issue(t, testClaims())[0], "lab", ErrUntrusted},
		{"a node under the root", p.forge(t, p.root, func(*x509.Certificate) {}), "lab", ErrClaims},
		{"the root", p.root.Cert(), "lab", ErrClaims},
		{"rubbish", []byte{1}, "lab", ErrUntrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckCA(tt.ca, p.roots, tt.mesh); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := CheckCA(p.issuer.Cert(), nil, "lab"); !errors.Is(err, ErrUntrusted) {
		t.Errorf("no roots: %v", err)
	}
}

func TestLifetime(t *testing.T) {
	p := newPKI(t, testMesh)
	for _, tt := range []struct {
		life, want time.Duration
	}{
		{0, NodeLife}, {MinNodeLife, time.Minute}, {time.Hour, time.Hour}, {MaxNodeLife, 90 * day},
	} {
		c := testClaims()
		c.Life = tt.life
		leaf, err := IssueNode(p.issuer, c, testNow)
		if err != nil {
			t.Fatal(err)
		}
		from, to, err := Lifetime(leaf)
		if err != nil || !from.Equal(testNow) || to.Sub(from) != tt.want {
			t.Errorf("%s: from %s to %s, %v", tt.life, from, to, err)
		}
		if half, err := RenewAt(leaf); err != nil || half.Sub(testNow) != tt.want/2 {
			t.Errorf("%s: renewed at %s, %v", tt.life, half, err)
		}
		if _, _, err := Verify(p.chain(leaf), p.roots, "lab", testNow); err != nil {
			t.Errorf("%s: %v", tt.life, err)
		}
	}
	for _, life := range []time.Duration{-1, 1, MinNodeLife - 1, MaxNodeLife + 1} {
		c := testClaims()
		c.Life = life
		if _, err := IssueNode(p.issuer, c, testNow); err == nil {
			t.Errorf("issued for %s", life)
		}
	}
	if _, err := RenewAt([]byte("rubbish")); err == nil {
		t.Error("rubbish has a half life")
	}
	// The end of the issuer's life is the end of the node's; half of what is left.
	leaf, err := IssueNode(p.issuer, testClaims(), testNow.Add(IssuerLife-day))
	if err != nil {
		t.Fatal(err)
	}
	if half, err := RenewAt(leaf); err != nil || !half.Equal(testNow.Add(IssuerLife-day/2)) {
		t.Errorf("half of the last day: %s, %v", half, err)
	}
}
