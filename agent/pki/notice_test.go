package pki

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

const testNode = "0123456789abcdef0123456789abcdef"

func signed(t testing.TB, s *Signer, n Notice, also ...*Signer) []byte {
	t.Helper()
	if n.At.IsZero() {
		n.At = testNow
	}
	if n.Reason == "" {
		n.Reason = "operator"
	}
	b, err := SignNotice(s, "lab", n, also...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNoticesComeBack(t *testing.T) {
	p := newPKI(t, testMesh)
	second := p.successor(t, testNow)
	for _, tt := range []struct {
		name string
		by   []*Signer
		n    Notice
	}{
		{"revoked", []*Signer{p.issuer}, Notice{Kind: NoticeRevoked, Node: testNode, Name: "gpu-1", Reason: "operator", At: testNow, By: "gw-b"}},
		{"revoked by the root, no name", []*Signer{p.root}, Notice{Kind: NoticeRevoked, Node: testNode, Reason: "left", At: testNow, By: "root"}},
		{"quarantined", []*Signer{p.issuer}, Notice{Kind: NoticeQuarantined, Node: testNode, Reason: "clone", At: testNow, Epoch: 1 << 63, By: "gw-b"}},
		{"released", []*Signer{p.issuer}, Notice{Kind: NoticeReleased, Node: testNode, Reason: "x", At: testNow, By: "gw-b"}},
		{"issuer revoked", []*Signer{p.root}, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(p.issuer.cert), Name: "gw-b", Reason: "stolen", At: testNow, By: "root"}},
		{"roots", []*Signer{p.root}, Notice{
			Kind: NoticeRoots, Reason: "rotate", At: testNow, Epoch: 7, By: "root",
			Roots: [][]byte{p.root.Cert(), second.root.Cert()}, CAs: [][]byte{p.issuer.Cert(), p.renewer.Cert()},
		}},
		{"roots, of two", []*Signer{p.root, second.root}, Notice{Kind: NoticeRoots, Reason: "retire", At: testNow, Epoch: 8, By: "root", Roots: [][]byte{second.root.Cert()}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := signed(t, tt.by[0], tt.n, tt.by[1:]...)
			got, err := ReadNotice(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.n, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if tt.n.Kind != NoticeRoots && len(b) > MaxSmallNotice {
				t.Errorf("%d bytes", len(b))
			}
			for cut := range b {
				if _, err := ReadNotice(b[:cut]); !errors.Is(err, ErrNotice) {
					t.Fatalf("cut at %d: %v", cut, err)
				}
			}
			if _, err := ReadNotice(append(slices.Clone(b), 0)); !errors.Is(err, ErrNotice) {
				t.Errorf("longer: %v", err)
			}
		})
	}
}

// TestSmallNoticesFitDatagrams takes the longest names there are.
func TestSmallNoticesFitDatagrams(t *testing.T) {
	label := strings.Repeat("a", 63)
	domain := label + "." + label + "." + strings.Repeat("b", 61)
	if len(domain) != 189 {
		t.Fatal(len(domain))
	}
	p := newPKI(t, Mesh{Name: label, Domain: domain, Prefix: testMesh.Prefix})
	block, _ := Block(testMesh.Prefix, 2)
	der, err := NewIssuer(p.root, public(seeded(6)), label, block, testNow)
	issuer := newSigner(t, seeded(6), der, err)
	n := Notice{Kind: NoticeQuarantined, Node: testNode, Name: label, Reason: strings.Repeat("x", 32), At: testNow, Epoch: 1}
	b, err := SignNotice(issuer, label, n)
	if err != nil || len(b) > MaxSmallNotice {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	n.Kind = NoticeIssuerRevoked
	if b, err := SignNotice(p.root, label, n); err != nil || len(b) > MaxSmallNotice {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestSignNoticeRefuses(t *testing.T) {
	p := newPKI(t, testMesh)
	good := Notice{Kind: NoticeRevoked, Node: testNode, Reason: "operator", At: testNow}
	roots := Notice{Kind: NoticeRoots, Reason: "rotate", At: testNow, Roots: p.roots.Certs()}
	if _, err := SignNotice(p.issuer, "lab", good); err != nil {
		t.Fatal(err)
	}
	node := p.issue(t, testClaims())
	for _, tt := range []struct {
		name   string
		by     *Signer
		mesh   string
		n      Notice
		change func(*Notice)
	}{
		{"no reason", p.issuer, "lab", good, func(n *Notice) { n.Reason = "" }},
		{"a long reason", p.issuer, "lab", good, func(n *Notice) { n.Reason = strings.Repeat("a", 33) }},
		{"two words", p.issuer, "lab", good, func(n *Notice) { n.Reason = "two words" }},
		{"no time", p.issuer, "lab", good, func(n *Notice) { n.At = time.Time{} }},
		{"no node", p.issuer, "lab", good, func(n *Notice) { n.Node = "" }},
		{"upper-case node", p.issuer, "lab", good, func(n *Notice) { n.Node = "0123456789ABCDEF0123456789ABCDEF" }},
		{"half a node", p.issuer, "lab", good, func(n *Notice) { n.Node = discovery.NodeID(testNode[:16]) }},
		{"a name of two words", p.issuer, "lab", good, func(n *Notice) { n.Name = "gpu 1" }},
		{"unknown kind", p.issuer, "lab", good, func(n *Notice) { n.Kind = "rumour" }},
		{"another mesh", p.issuer, "prod", good, nil},
		{"by a renewer", p.renewer, "lab", good, nil},
		{"by a node", &Signer{cert: parsed(t, node[0]), key: seeded(1)}, "lab", good, nil},
		{"after the issuer's end", p.issuer, "lab", good, func(n *Notice) { n.At = testNow.Add(IssuerLife + day) }},
		{"before the issuer's time", p.issuer, "lab", good, func(n *Notice) { n.At = testNow.Add(-day) }},
		{"an issuer revoked by an issuer", p.issuer, "lab", good, func(n *Notice) { n.Kind = NoticeIssuerRevoked }},
		{"roots by an issuer", p.issuer, "lab", roots, nil},
		{"no roots", p.root, "lab", roots, func(n *Notice) { n.Roots = nil }},
		{"five roots", p.root, "lab", roots, func(n *Notice) { n.Roots = slices.Repeat(n.Roots, 5) }},
		{"97 others", p.root, "lab", roots, func(n *Notice) { n.CAs = slices.Repeat(n.Roots, 97) }},
		{"an empty certificate", p.root, "lab", roots, func(n *Notice) { n.CAs = [][]byte{{}} }},
		{"a huge certificate", p.root, "lab", roots, func(n *Notice) { n.CAs = [][]byte{make([]byte, maxCert+1)} }},
		{"all too large", p.root, "lab", roots, func(n *Notice) { n.CAs = slices.Repeat([][]byte{make([]byte, maxCert)}, 17) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change != nil {
				tt.change(&tt.n)
			}
			if b, err := SignNotice(tt.by, tt.mesh, tt.n); err == nil || b != nil {
				t.Errorf("signed: %v", err)
			}
		})
	}
	if _, err := SignNotice(p.root, "lab", good, p.issuer); err == nil {
		t.Error("two signed about a node")
	}
	if _, err := SignNotice(p.root, "lab", roots, p.root); err == nil {
		t.Error("one root signed twice")
	}
	if _, err := SignNotice(p.root, "lab", roots, p.issuer); err == nil {
		t.Error("an issuer signed roots with a root")
	}
}

// TestNoticeAnyByteChanged: nobody but the signer can make another notice of it.
func TestNoticeAnyByteChanged(t *testing.T) {
	p := newPKI(t, testMesh)
	second := p.successor(t, testNow)
	for _, b := range [][]byte{
		signed(t, p.issuer, Notice{Kind: NoticeQuarantined, Node: testNode, Name: "gpu-1", Epoch: 3}),
		signed(t, p.root, Notice{Kind: NoticeRoots, Epoch: 3, Roots: [][]byte{second.root.Cert()}, CAs: [][]byte{}}, second.root),
	} {
		for i := range b {
			for _, bit := range []byte{1, 0x80} {
				changed := bytes.Clone(b)
				changed[i] ^= bit
				roll := NewRoll("lab", p.roots)
				if _, news, err := roll.Add(changed, testNow); err == nil || news {
					t.Fatalf("byte %d changed: news %v, %v", i, news, err)
				}
			}
		}
		if _, _, err := NewRoll("prod", p.roots).Add(b, testNow); !errors.Is(err, ErrUntrusted) {
			t.Errorf("another mesh: %v", err)
		}
		if _, news, err := NewRoll("lab", p.roots).Add(b, testNow); err != nil || !news {
			t.Errorf("unchanged: %v", err)
		}
	}
}

func TestNoticesOfMeshesWithOneKey(t *testing.T) {
	// The same keys in another mesh: the notice names no mesh, its signature does.
	p := newPKI(t, testMesh)
	b := signed(t, p.issuer, Notice{Kind: NoticeRevoked, Node: testNode})
	m := Mesh{Name: "prod", Domain: "prod.mesh", Prefix: netip.MustParsePrefix("10.87.0.0/16")}
	der, err := selfSign(m, p.root.key, testNow.Add(-Backdate), testNow)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := NewRoots(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewRoll("prod", roots).Add(b, testNow); !errors.Is(err, ErrUntrusted) {
		t.Errorf("got %v", err)
	}
}
