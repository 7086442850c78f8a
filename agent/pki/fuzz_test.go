package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"drawbridge/discovery"
)

// fixedPKI is the same in every process: a fuzzer's workers must agree on what
// was issued.
func fixedPKI(f *testing.F) (pkiTest, [][]byte) {
	f.Helper()
	fixed := func(tmpl, above *x509.Certificate, pub, key byte) *x509.Certificate {
		tmpl.SerialNumber = big.NewInt(int64(pub))
		der, err := x509.CreateCertificate(rand.Reader, tmpl, above, seeded(pub).Public(), seeded(key))
		if err != nil {
			f.Fatal(err)
		}
		c, err := parseCert(der)
		if err != nil {
			f.Fatal(err)
		}
		return c
	}
	root := authority("lab mesh root", testNow, testNow.Add(RootLife), testMesh.Prefix, testMesh)
	root.MaxPathLen = 1
	root = fixed(root, root, 10, 10)
	block, _ := Block(testMesh.Prefix, 1)
	issuer := authority("lab mesh issuer gw-b", testNow, testNow.Add(IssuerLife), block, testMesh)
	issuer.MaxPathLenZero = true
	issuer = fixed(issuer, root, 11, 10)
	roots, err := NewRoots(root.Raw)
	if err != nil {
		f.Fatal(err)
	}
	renewer := authority("lab mesh renewer gw-c", testNow, testNow.Add(IssuerLife), testMesh.Prefix, testMesh)
	renewer.MaxPathLenZero = true
	renewer.ExtraExtensions = []pkix.Extension{{Id: oidRenewer, Value: asn1.NullBytes}}
	renewer = fixed(renewer, root, 12, 10)
	p := pkiTest{root: &Signer{root, seeded(10)}, issuer: &Signer{issuer, seeded(11)}, renewer: &Signer{renewer, seeded(12)}, roots: roots}
	return p, p.chain(p.forge(f, p.issuer, func(*x509.Certificate) {}))
}

func FuzzVerify(f *testing.F) {
	p, chain := fixedPKI(f)
	if _, _, err := Verify(chain, p.roots, "lab", testNow); err != nil {
		f.Fatal(err)
	}
	f.Add(chain[0], chain[1])
	f.Add(p.forge(f, p.issuer, func(c *x509.Certificate) { c.URIs = uri("/site/a/king/b") }), chain[1])
	f.Add(chain[1], chain[2])
	f.Fuzz(func(t *testing.T, leaf, issuer []byte) {
		id, _, err := Verify([][]byte{leaf, issuer}, p.roots, "lab", testNow)
		if err == nil && !(bytes.Equal(leaf, chain[0]) && bytes.Equal(issuer, chain[1])) {
			t.Fatalf("a certificate nobody issued: %+v", id)
		}
	})
}

// FuzzClaims signs what the fuzzer wants said with the issuer's key: what a
// stolen gateway could do. Whatever passes is within the issuer's bounds.
func FuzzClaims(f *testing.F) {
	p, _ := fixedPKI(f)
	block := netip.MustParsePrefix("10.86.16.0/20")
	f.Add("/site/idc-seoul/server/gpu-1", "gpu-1.lab.mesh", []byte{10, 86, 16, 2})
	f.Add("/site/idc-seoul/gateway/gw-b", "gw-b.lab.mesh", []byte{10, 86, 16, 1})
	f.Fuzz(func(t *testing.T, path, dns string, ip []byte) {
		tmpl := &x509.Certificate{}
		p.forge(t, p.issuer, func(c *x509.Certificate) { *tmpl = *c })
		tmpl.URIs, tmpl.DNSNames, tmpl.IPAddresses = uri(path), []string{dns}, []net.IP{ip}
		leaf, err := x509.CreateCertificate(rand.Reader, tmpl, p.issuer.cert, seeded(1).Public(), p.issuer.key)
		if err != nil {
			return
		}
		id, _, err := Verify([][]byte{leaf, p.issuer.Cert()}, p.roots, "lab", testNow)
		if err != nil {
			return
		}
		if !block.Contains(id.Addr) || CheckLabel("name", id.Name) != nil || CheckLabel("site", id.Site) != nil || CheckRole(id.Role) != nil ||
			(id.Role == discovery.RoleGateway) != (id.Addr == FirstAddr(block)) {
			t.Fatalf("out of bounds: %+v", id)
		}
	})
}

// FuzzVerifyRenewal: of all that can be put together, only the renewal that was
// made and the original itself are believed.
func FuzzVerifyRenewal(f *testing.F) {
	p, first := fixedPKI(f)
	leaf := p.forge(f, p.renewer, func(c *x509.Certificate) { c.NotAfter = testNow.Add(2 * time.Hour) })
	chain := [][]byte{leaf, p.renewer.Cert(), first[0], first[1]}
	if _, _, err := Verify(chain, p.roots, "lab", testNow); err != nil {
		f.Fatal(err)
	}
	lie := p.forge(f, p.renewer, func(c *x509.Certificate) { c.URIs = uri("/site/a/gateway/b") })
	f.Add(leaf, chain[1], chain[2], chain[3])
	f.Add(lie, chain[1], chain[2], chain[3])
	f.Add(leaf, chain[1], leaf, chain[1])
	f.Add(first[0], first[1], leaf, chain[1])
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		got := [][]byte{a, b, c, d}
		for _, chain := range append(Alternatives(got), got) {
			id, _, err := Verify(chain, p.roots, "lab", testNow)
			if err != nil {
				continue
			}
			original := bytes.Equal(chain[0], first[0]) && bytes.Equal(chain[1], first[1])
			renewal := len(chain) >= 4 && bytes.Equal(chain[0], leaf) && bytes.Equal(chain[1], p.renewer.Cert()) &&
				bytes.Equal(chain[2], first[0]) && bytes.Equal(chain[3], first[1])
			if !original && !renewal {
				t.Fatalf("a chain nobody made: %+v", id)
			}
		}
		if renewed, err := RenewNode(p.renewer, got, 0, testNow); err == nil {
			id, _, err := Verify(renewed, p.roots, "lab", testNow)
			if err == nil && id.Name != "gpu-1" {
				t.Fatalf("renewed into %+v", id)
			}
		}
	})
}

// fuzzNotices are one of each kind.
func fuzzNotices(f *testing.F, p pkiTest) [][]byte {
	return [][]byte{
		signed(f, p.issuer, Notice{Kind: NoticeRevoked, Node: testNode, Name: "gpu-1"}),
		signed(f, p.issuer, Notice{Kind: NoticeQuarantined, Node: testNode, Epoch: 1}),
		signed(f, p.root, Notice{Kind: NoticeReleased, Node: testNode, Epoch: 2}),
		signed(f, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: [32]byte{1}}),
		signed(f, p.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: p.roots.Certs(), CAs: [][]byte{p.issuer.Cert(), p.renewer.Cert()}}),
	}
}

func FuzzReadNotice(f *testing.F) {
	p, _ := fixedPKI(f)
	for _, b := range fuzzNotices(f, p) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseNotice(b)
		if err != nil {
			if !errors.Is(err, ErrNotice) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		var certs [][]byte
		for _, c := range n.signers {
			certs = append(certs, c.Raw)
		}
		again, err := noticeText(n.Notice, certs)
		if err != nil {
			t.Fatal(err)
		}
		if again = append(again, bytes.Join(n.sigs, nil)...); !bytes.Equal(again, b) {
			t.Fatalf("does not come back:\n%x\n%x", b, again)
		}
	})
}

func FuzzRollAdd(f *testing.F) {
	p, _ := fixedPKI(f)
	good := fuzzNotices(f, p)
	for _, b := range good {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewRoll("lab", p.roots)
		_, news, err := r.Add(b, testNow)
		if err == nil != news || news != slices.ContainsFunc(good, func(g []byte) bool { return bytes.Equal(g, b) }) {
			t.Fatalf("news %v, %v", news, err)
		}
	})
}
