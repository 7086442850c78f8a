package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

var (
	testMesh = Mesh{Name: "lab", Domain: "lab.mesh", Prefix: netip.MustParsePrefix("10.86.0.0/16")}
	testNow  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	testWG   = [32]byte(bytes.Repeat([]byte{7}, 32))
	anyAddr  = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
)

func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// pkiTest is a mesh with the issuer of gw-b and the renewer of gw-c.
type pkiTest struct {
	root, issuer, renewer *Signer
	roots                 *Roots
}

func newPKI(t testing.TB, m Mesh) pkiTest {
	t.Helper()
	cert, key, err := NewRoot(m, testNow)
	if err != nil {
		t.Fatal(err)
	}
	root, err := NewSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := NewRoots(cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := Block(m.Prefix, 1)
	ic, err := NewIssuer(root, public(seeded(2)), "gw-b", block, testNow)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewSigner(ic, seeded(2))
	if err != nil {
		t.Fatal(err)
	}
	rc, err := NewRenewer(root, public(seeded(3)), "gw-c", testNow)
	renewer := newSigner(t, seeded(3), rc, err)
	return pkiTest{root: root, issuer: issuer, renewer: renewer, roots: roots}
}

func testClaims() Claims {
	return Claims{
		Name: "gpu-1", Site: "idc-seoul", Role: discovery.RoleServer,
		Addr: netip.MustParseAddr("10.86.16.2"), Identity: public(seeded(1)), WireGuard: testWG,
	}
}

func (p pkiTest) chain(leaf []byte) [][]byte {
	return [][]byte{leaf, p.issuer.Cert(), p.root.Cert()}
}

func (p pkiTest) issue(t testing.TB, c Claims) [][]byte {
	t.Helper()
	leaf, err := IssueNode(p.issuer, c, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return p.chain(leaf)
}

func TestVerifyIssued(t *testing.T) {
	p := newPKI(t, testMesh)
	want := discovery.Identity{
		ID: NodeID(public(seeded(1))), Name: "gpu-1", Site: "idc-seoul", Role: discovery.RoleServer,
		Addr: netip.MustParseAddr("10.86.16.2"), WireGuard: testWG, NotAfter: testNow.Add(NodeLife),
	}
	chain := p.issue(t, testClaims())
	for _, c := range [][][]byte{chain, chain[:2]} {
		got, key, err := Verify(c, p.roots, "lab", testNow)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, anyAddr); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if !key.Equal(seeded(1).Public()) {
			t.Error("wrong key")
		}
	}
}

func TestNodeIDIsPinnedDown(t *testing.T) {
	// openssl pkey -pubout -outform DER | sha256sum | cut -c1-32, for the key
	// of RFC 8032, section 7.1, test 1.
	pub := ed25519.PublicKey{
		0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
		0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
	}
	if got := NodeID(pub); got != "06e3fd8fda29bb60ab59557de61edb0a" {
		t.Errorf("got %s", got)
	}
}

func TestVerifyTime(t *testing.T) {
	p := newPKI(t, testMesh)
	chain := p.issue(t, testClaims())
	for _, tt := range []struct {
		name string
		now  time.Time
		want error
	}{
		{"backdated", testNow.Add(-Backdate), nil},
		{"last second", testNow.Add(NodeLife), nil},
		{"expired", testNow.Add(NodeLife + time.Second), ErrExpired},
		{"all expired", testNow.Add(20 * RootLife), ErrExpired},
		{"clock behind", testNow.Add(-Backdate - time.Second), ErrNotYetValid},
		{"clock at 1970", time.Unix(0, 0), ErrNotYetValid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, key, err := Verify(chain, p.roots, "lab", tt.now)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if id.Name != "gpu-1" || len(key) == 0 {
				t.Error("no identity")
			}
		})
	}
}

// forge signs whatever it is told to, as a stolen issuer key would.
func (p pkiTest) forge(t testing.TB, s *Signer, change func(*x509.Certificate)) []byte {
	t.Helper()
	wg, _ := asn1.Marshal(testWG[:])
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gpu-1"},
		NotBefore: testNow, NotAfter: testNow.Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"gpu-1.lab.mesh"},
		IPAddresses:           []net.IP{net.IPv4(10, 86, 16, 2)},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: "lab", Path: "/site/idc-seoul/server/gpu-1"}},
		ExtraExtensions:       []pkix.Extension{{Id: oidWireGuard, Value: wg}},
	}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, s.cert, seeded(1).Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func uri(path string) []*url.URL { return []*url.URL{{Scheme: "spiffe", Host: "lab", Path: path}} }

func TestVerifyRefusesForgedClaims(t *testing.T) {
	p := newPKI(t, testMesh)
	wg := func(b []byte) pkix.Extension { return pkix.Extension{Id: oidWireGuard, Value: b} }
	good, _ := asn1.Marshal(testWG[:])
	for _, tt := range []struct {
		name   string
		change func(*x509.Certificate)
	}{
		{"address of another block", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 0, 2)} }},
		{"address outside the mesh", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(8, 8, 8, 8)} }},
		{"IPv6 address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("fd00::1")} }},
		{"two addresses", func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 86, 16, 3)) }},
		{"no address", func(c *x509.Certificate) { c.IPAddresses = nil }},
		{"gateway's address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 16, 1)} }},
		{"network address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 16, 0)} }},
		{"broadcast address", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 86, 31, 255)} }},
		{"second gateway", func(c *x509.Certificate) { c.URIs = uri("/site/idc-seoul/gateway/gpu-1") }},
		{"unknown role", func(c *x509.Certificate) { c.URIs = uri("/site/idc-seoul/king/gpu-1") }},
		{"two URIs", func(c *x509.Certificate) { c.URIs = append(c.URIs, uri("/site/a/server/b")...) }},
		{"no URI", func(c *x509.Certificate) { c.URIs = nil }},
		{"another mesh", func(c *x509.Certificate) { c.URIs[0].Host = "prod" }},
		{"query in URI", func(c *x509.Certificate) { c.URIs[0].RawQuery = "x=1" }},
		{"upper-case name", func(c *x509.Certificate) { c.URIs = uri("/site/idc-seoul/server/GPU-1") }},
		{"name with dot", func(c *x509.Certificate) { c.URIs = uri("/site/idc-seoul/server/gpu.1") }},
		{"empty site", func(c *x509.Certificate) { c.URIs = uri("/site//server/gpu-1") }},
		{"more path", func(c *x509.Certificate) { c.URIs = uri("/site/idc-seoul/server/gpu-1/x") }},
		{"DNS of another node", func(c *x509.Certificate) { c.DNSNames = []string{"gpu-2.lab.mesh"} }},
		{"DNS outside", func(c *x509.Certificate) { c.DNSNames = []string{"example.com"} }},
		{"two DNS names", func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "gpu-2.lab.mesh") }},
		{"e-mail address", func(c *x509.Certificate) { c.EmailAddresses = []string{"root@lab.mesh"} }},
		{"no wireguard key", func(c *x509.Certificate) { c.ExtraExtensions = nil }},
		{"zero wireguard key", func(c *x509.Certificate) {
			b, _ := asn1.Marshal(make([]byte, 32))
			c.ExtraExtensions = []pkix.Extension{wg(b)}
		}},
		{"short wireguard key", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{wg(good[:20])} }},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: good})
		}},
		{"server use only", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }},
		{"code signing", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }},
		{"any use", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		{"signs certificates", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }},
		{"a long life", func(c *x509.Certificate) { c.NotAfter = testNow.Add(MaxNodeLife + Backdate + time.Second) }},
		{"outlives its issuer", func(c *x509.Certificate) { c.NotAfter = testNow.Add(2 * IssuerLife) }},
		{"older than its issuer", func(c *x509.Certificate) { c.NotBefore = testNow.Add(-IssuerLife) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain := p.chain(p.forge(t, p.issuer, tt.change))
			id, key, err := Verify(chain, p.roots, "lab", testNow)
			if !errors.Is(err, ErrClaims) && !errors.Is(err, ErrUntrusted) {
				t.Fatalf("got %v", err)
			}
			if !reflect.DeepEqual(id, discovery.Identity{}) || key != nil {
				t.Errorf("identity with an error: %+v", id)
			}
		})
	}
	if _, _, err := Verify(p.chain(p.forge(t, p.issuer, func(*x509.Certificate) {})), p.roots, "lab", testNow); err != nil {
		t.Errorf("the unchanged one must pass, or the table proves nothing: %v", err)
	}
}

func TestVerifyRefusesChains(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	chain, strange := p.issue(t, testClaims()), other.issue(t, testClaims())
	node, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	asIssuer := &Signer{cert: node, key: seeded(1)}
	whole := p.forgedIssuer(t, testMesh.Prefix)
	for _, tt := range []struct {
		name  string
		chain [][]byte
	}{
		{"none", nil},
		{"node alone", chain[:1]},
		{"seven certificates", append(append(append([][]byte{}, chain...), chain...), chain[0])},
		{"issuer of another root", [][]byte{chain[0], strange[1], strange[2]}},
		{"all of another root", strange},
		{"issuer and node swapped", [][]byte{chain[1], chain[0]}},
		{"signed by the root", [][]byte{p.forge(t, p.root, func(*x509.Certificate) {}), p.root.Cert()}},
		{"signed by a node", [][]byte{p.forge(t, asIssuer, func(*x509.Certificate) {}), chain[0], chain[1], chain[2]}},
		{"issuer for the whole mesh", [][]byte{p.forge(t, whole, func(*x509.Certificate) {}), whole.Cert(), p.root.Cert()}},
		{"rubbish", [][]byte{{1}, {2}, {3}}},
		{"huge", [][]byte{make([]byte, maxCert+1), chain[1]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := Verify(tt.chain, p.roots, "lab", testNow); !errors.Is(err, ErrUntrusted) && !errors.Is(err, ErrClaims) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, _, err := Verify(chain, p.roots, "prod", testNow); !errors.Is(err, ErrClaims) {
		t.Errorf("another mesh: %v", err)
	}
	both, err := NewRoots(other.root.Cert(), p.root.Cert())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(chain, both, "lab", testNow); err != nil {
		t.Errorf("two roots: %v", err)
	}
}

// forgedIssuer is signed by the root but is no issuer of ours.
func (p pkiTest) forgedIssuer(t testing.TB, block netip.Prefix) *Signer {
	t.Helper()
	tmpl := authority("x", testNow.Add(-Backdate), testNow.Add(IssuerLife), block, testMesh)
	tmpl.MaxPathLenZero = true
	der, err := sign(tmpl, p.root.cert, public(seeded(5)), p.root.key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(der, seeded(5))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestIssueRefuses(t *testing.T) {
	p := newPKI(t, testMesh)
	for name, change := range map[string]func(*Claims){
		"other block":       func(c *Claims) { c.Addr = netip.MustParseAddr("10.86.0.5") },
		"gateway address":   func(c *Claims) { c.Addr = netip.MustParseAddr("10.86.16.1") },
		"gateway elsewhere": func(c *Claims) { c.Role = discovery.RoleGateway },
		"bad name":          func(c *Claims) { c.Name = "a b" },
		"bad site":          func(c *Claims) { c.Site = "" },
		"no key":            func(c *Claims) { c.WireGuard = [32]byte{} },
		"no identity":       func(c *Claims) { c.Identity = nil },
		"no address":        func(c *Claims) { c.Addr = netip.Addr{} },
	} {
		t.Run(name, func(t *testing.T) {
			c := testClaims()
			change(&c)
			if _, err := IssueNode(p.issuer, c, testNow); err == nil {
				t.Error("issued")
			}
		})
	}
	if _, err := IssueNode(p.issuer, testClaims(), testNow.Add(2*IssuerLife)); !errors.Is(err, ErrIssuerExpired) {
		t.Errorf("expired issuer: %v", err)
	}
	if _, err := IssueNode(p.root, testClaims(), testNow); err == nil {
		t.Error("the root issued a node certificate")
	}
	if _, err := NewIssuer(p.issuer, public(seeded(3)), "gw-c", testMesh.Prefix, testNow); err == nil {
		t.Error("an issuer made an issuer")
	}
	if _, err := NewIssuer(p.root, public(seeded(3)), "gw-c", testMesh.Prefix, testNow); err == nil {
		t.Error("an issuer for the whole mesh")
	}
	if _, err := NewSigner(p.issuer.Cert(), seeded(9)); err == nil {
		t.Error("a signer with another's key")
	}
}

func TestLivesShrinkToTheSigner(t *testing.T) {
	p := newPKI(t, testMesh)
	late := testNow.Add(IssuerLife - time.Hour)
	leaf, err := IssueNode(p.issuer, testClaims(), late)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := Verify(p.chain(leaf), p.roots, "lab", late)
	if err != nil || !id.NotAfter.Equal(p.issuer.NotAfter()) {
		t.Errorf("ends %s, %v; want the issuer's %s", id.NotAfter, err, p.issuer.NotAfter())
	}
}

func TestPinnedRoot(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	pin, err := Pin(p.root.Cert())
	if err != nil {
		t.Fatal(err)
	}
	chain := p.issue(t, testClaims())
	got, err := PinnedRoot(chain, pin)
	if err != nil || !bytes.Equal(got, p.root.Cert()) {
		t.Errorf("got %v", err)
	}
	if _, err := PinnedRoot(other.issue(t, testClaims()), pin); !errors.Is(err, ErrUntrusted) {
		t.Errorf("fake: %v", err)
	}
	// The pin of an issuer's key does not make the issuer a root.
	ipin, _ := Pin(p.issuer.Cert())
	if _, err := PinnedRoot(chain, ipin); !errors.Is(err, ErrUntrusted) {
		t.Errorf("issuer as root: %v", err)
	}
	if m, err := MeshOf(p.root.Cert()); err != nil || m != testMesh {
		t.Errorf("mesh %+v, %v", m, err)
	}
	if b, err := BlockOf(p.issuer.Cert()); err != nil || b != netip.MustParsePrefix("10.86.16.0/20") {
		t.Errorf("block %s, %v", b, err)
	}
}

func TestBlocks(t *testing.T) {
	mesh := netip.MustParsePrefix("10.86.0.0/16")
	for n, want := range map[int]string{0: "10.86.0.0/20", 1: "10.86.16.0/20", 15: "10.86.240.0/20"} {
		if got, ok := Block(mesh, n); !ok || got != netip.MustParsePrefix(want) {
			t.Errorf("block %d: %s %v", n, got, ok)
		}
	}
	for _, n := range []int{-1, 16} {
		if _, ok := Block(mesh, n); ok {
			t.Errorf("block %d exists", n)
		}
	}
	small, _ := Block(netip.MustParsePrefix("192.168.7.0/24"), 15)
	taken := map[netip.Addr]bool{}
	for {
		a, ok := NextAddr(small, func(a netip.Addr) bool { return taken[a] })
		if !ok {
			break
		}
		taken[a] = true
	}
	if len(taken) != 13 || taken[FirstAddr(small)] || taken[netip.MustParseAddr("192.168.7.255")] {
		t.Errorf("a /28 gave %d addresses: %v", len(taken), taken)
	}
}

func TestCheckPrefix(t *testing.T) {
	for s, ok := range map[string]bool{
		"10.86.0.0/16": true, "10.0.0.0/8": true, "172.16.0.0/12": true, "192.168.1.0/24": true, "100.64.0.0/10": true,
		"10.86.0.1/16": false, "172.0.0.0/8": false, "203.0.113.0/24": false, "10.86.0.0/25": false, "fd00::/16": false, "172.32.0.0/16": false,
	} {
		if err := CheckPrefix(netip.MustParsePrefix(s)); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	if CheckPrefix(netip.Prefix{}) == nil {
		t.Error("the zero prefix passed")
	}
}

func TestSignerHidesKey(t *testing.T) {
	p := newPKI(t, testMesh)
	said := []string{p.root.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		said = append(said, fmt.Sprintf(verb, p.root))
	}
	for _, s := range said {
		if !strings.Contains(s, "lab mesh root") || len(s) > 60 {
			t.Errorf("prints %q", s)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "by", p.root)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "by", p.root)
	if n := strings.Count(log.String(), "lab mesh root"); n != 2 || log.Len() > 300 {
		t.Errorf("logs %s", log.String())
	}
}
