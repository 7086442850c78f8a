package pki

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestSuccessorBindsTheSameMesh(t *testing.T) {
	p := newPKI(t, testMesh)
	now := testNow.Add(400 * day)
	next := p.successor(t, now)
	if m, err := MeshOf(next.root.Cert()); err != nil || m != testMesh {
		t.Errorf("%+v, %v", m, err)
	}
	if c := parsed(t, next.root.Cert()); !c.NotBefore.Equal(p.root.cert.NotBefore) || !c.NotAfter.Equal(now.Add(RootLife)) {
		t.Errorf("from %s to %s", c.NotBefore, c.NotAfter)
	}
	if _, err := Successor(p.issuer.Cert(), seeded(20), now); err == nil {
		t.Error("an issuer has a successor")
	}
	if _, err := Successor(p.root.Cert(), nil, now); err == nil {
		t.Error("a root without a key")
	}
}

func TestRecertify(t *testing.T) {
	p := newPKI(t, testMesh)
	now := testNow.Add(100 * day)
	next := p.successor(t, now)
	for _, old := range []*Signer{p.issuer, p.renewer} {
		der, err := Recertify(next.root, old.Cert(), now)
		if err != nil {
			t.Fatal(err)
		}
		c := parsed(t, der)
		if !twin(c, old.cert) || !c.NotBefore.Equal(old.cert.NotBefore) || !c.NotAfter.Equal(old.cert.NotAfter) || bytes.Equal(der, old.Cert()) {
			t.Errorf("%s became %q, %s to %s", old, c.Subject.CommonName, c.NotBefore, c.NotAfter)
		}
		if CheckCA(der, next.roots, "lab") != nil || CheckCA(der, p.roots, "lab") == nil {
			t.Error("certified by the wrong root")
		}
	}
	other := newPKI(t, Mesh{Name: "prod", Domain: "prod.mesh", Prefix: testMesh.Prefix})
	for name, c := range map[string]struct {
		by  *Signer
		ca  []byte
		now time.Time
	}{
		"another mesh":           {next.root, other.issuer.Cert(), now},
		"an issuer of all":       {next.root, p.forgedIssuer(t, testMesh.Prefix).Cert(), now},
		"a node":                 {next.root, p.issue(t, testClaims())[0], now},
		"a root":                 {next.root, p.root.Cert(), now},
		"by an issuer":           {p.issuer, p.renewer.Cert(), now},
		"by a root that is over": {p.root, p.renewer.Cert(), testNow.Add(RootLife + day)},
		"rubbish":                {next.root, []byte{1}, now},
	} {
		if der, err := Recertify(c.by, c.ca, c.now); err == nil || der != nil {
			t.Errorf("%s: certified again", name)
		}
	}
	// Certificates below name their issuer's key identifier, whoever made it up.
	tmpl := authority("lab mesh issuer gw-d", testNow, testNow.Add(IssuerLife), netip.MustParsePrefix("10.86.32.0/20"), testMesh)
	tmpl.MaxPathLenZero, tmpl.SubjectKeyId = true, []byte("of another kind")
	named, err := sign(tmpl, p.root.cert, public(seeded(6)), p.root.key)
	if err != nil {
		t.Fatal(err)
	}
	if der, err := Recertify(next.root, named, now); err != nil || string(parsed(t, der).SubjectKeyId) != "of another kind" {
		t.Errorf("another key identifier: %v", err)
	}
	// An issuer that has ended still holds up the originals below it.
	if _, err := Recertify(next.root, p.issuer.Cert(), testNow.Add(IssuerLife+day)); err != nil {
		t.Errorf("an ended issuer: %v", err)
	}
}

func TestAlternatives(t *testing.T) {
	p := newPKI(t, testMesh)
	next := p.successor(t, testNow)
	again := func(ca *Signer) []byte {
		der, err := Recertify(next.root, ca.Cert(), testNow)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	node := p.issue(t, testClaims())
	renewed := p.renew(t, node)
	issuer2, renewer2 := again(p.issuer), again(p.renewer)
	oldRoot, newRoot := p.root.Cert(), next.root.Cert()
	// verifies tells with which roots an alternative verifies.
	verifies := func(presented [][]byte, roots *Roots) bool {
		return slices.ContainsFunc(Alternatives(presented), func(c [][]byte) bool {
			_, _, err := Verify(c, roots, "lab", testNow)
			return err == nil
		})
	}
	for _, tt := range []struct {
		name      string
		chain     [][]byte
		old, next bool
	}{
		{"an original", node, true, false},
		{"without a root", node[:2], true, false},
		{"under both roots", [][]byte{node[0], node[1], oldRoot, issuer2, newRoot}, true, true},
		{"under both roots, the new one first", [][]byte{node[0], issuer2, newRoot, node[1], oldRoot}, true, true},
		{"a renewal", renewed, true, false},
		{"a renewal under both roots", [][]byte{renewed[0], renewed[1], renewed[2], renewed[3], renewer2, issuer2}, true, true},
		{"issuers of others beside", [][]byte{node[0], p.renewer.Cert(), issuer2}, false, true},
		{"a node alone", node[:1], false, false},
		{"seven certificates", append(append([][]byte{}, renewed...), node...), false, false},
		{"rubbish", [][]byte{node[0], {1}, node[1]}, false, false},
		{"nothing", nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := verifies(tt.chain, p.roots); got != tt.old {
				t.Errorf("under the old root: %v", got)
			}
			if got := verifies(tt.chain, next.roots); got != tt.next {
				t.Errorf("under the new root: %v", got)
			}
			if n := len(Alternatives(tt.chain)); n > maxAlternatives {
				t.Errorf("%d alternatives", n)
			}
		})
	}
}

func TestAlternativesLeaveOutOthers(t *testing.T) {
	p := newPKI(t, testMesh)
	node := p.issue(t, testClaims())
	d, e := p.issuerNo(t, 3, "gw-d"), p.issuerNo(t, 4, "gw-e")
	got := Alternatives([][]byte{node[0], d.Cert(), e.Cert(), p.issuer.Cert(), p.root.Cert()})
	if len(got) != 2 || len(got[1]) != 2 || !bytes.Equal(got[1][1], p.issuer.Cert()) {
		t.Errorf("%d alternatives", len(got))
	}
}

func TestRootsAreBounded(t *testing.T) {
	p := newPKI(t, testMesh)
	one := p.root.Cert()
	if _, err := NewRoots(); err == nil {
		t.Error("no roots")
	}
	if _, err := NewRoots(one, one, one, one, one); err == nil {
		t.Error("five roots")
	}
	roots, err := NewRoots(one, p.successor(t, testNow).root.Cert())
	if err != nil {
		t.Fatal(err)
	}
	if certs := roots.Certs(); len(certs) != 2 || !bytes.Equal(certs[0], one) {
		t.Errorf("%d roots", len(certs))
	}
}

func TestRollRefresh(t *testing.T) {
	p := newPKI(t, testMesh)
	node := p.issue(t, testClaims())
	renewed := p.renew(t, node)
	// The gateway's issuer was certified anew at half life: same subject and key.
	younger, err := NewIssuer(p.root, public(seeded(2)), "gw-b", prefixOf(t, p.issuer.cert), testNow.Add(IssuerLife/2))
	if err != nil {
		t.Fatal(err)
	}
	now := testNow.Add(IssuerLife/2 + day)
	next := p.successor(t, now)
	var cas [][]byte
	for _, ca := range [][]byte{younger, p.renewer.Cert(), p.issuer.Cert()} {
		der, err := Recertify(next.root, ca, now)
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, der)
	}
	roll := NewRoll("lab", p.roots)
	if got := roll.Refresh(node); !slices.EqualFunc(got, node, bytes.Equal) {
		t.Error("a chain was refreshed for no reason")
	}
	addNotice(t, roll, now, p.root, Notice{Kind: NoticeRoots, Reason: "retire", Epoch: 1, At: now, Roots: [][]byte{next.root.Cert()}, CAs: cas})
	youngChain := [][]byte{p.issueAt(t, &Signer{cert: parsed(t, younger), key: seeded(2)}, testClaims(), now), younger}
	for name, chain := range map[string][][]byte{"original": node[:2], "with a root": node, "renewal": renewed, "of the younger issuer": youngChain} {
		if _, _, err := Verify(chain, roll.Roots(), "lab", testNow); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: the old root is still trusted: %v", name, err)
		}
		if id, _, err := Verify(roll.Refresh(chain), roll.Roots(), "lab", testNow); id.Name != "gpu-1" {
			t.Errorf("%s: %v", name, err)
		}
		if id, _, err := roll.Verify(chain, testNow); id.Name != "gpu-1" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i, ca := range [][]byte{younger, p.renewer.Cert(), p.issuer.Cert()} {
		if !bytes.Equal(roll.RefreshCA(ca), cas[i]) {
			t.Errorf("certificate %d became another", i)
		}
	}
	for _, chain := range [][][]byte{nil, node[:1], {{1}, {2}}, {node[0], {2}}} {
		if got := roll.Refresh(chain); !slices.EqualFunc(got, chain, bytes.Equal) {
			t.Error("rubbish was refreshed")
		}
	}
	if got := roll.RefreshCA([]byte{1}); !bytes.Equal(got, []byte{1}) {
		t.Error("rubbish was refreshed")
	}
}

func (p pkiTest) issueAt(t testing.TB, s *Signer, c Claims, now time.Time) []byte {
	t.Helper()
	leaf, err := IssueNode(s, c, now)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// issuerNo is the issuer of another gateway.
func (p pkiTest) issuerNo(t testing.TB, n int, name string) *Signer {
	t.Helper()
	block, ok := Block(testMesh.Prefix, n)
	if !ok {
		block = netip.Prefix{}
	}
	key := seeded(byte(40 + n))
	der, err := NewIssuer(p.root, public(key), name, block, testNow)
	return newSigner(t, key, der, err)
}
