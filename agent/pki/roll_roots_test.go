package pki

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestRollRoots(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	next := p.successor(t, testNow)
	a, b := p.root, next.root
	third := func() *Signer {
		der, err := Successor(a.Cert(), seeded(21), testNow)
		return newSigner(t, seeded(21), der, err)
	}()
	elsewhere := newPKI(t, Mesh{Name: "lab", Domain: "lab.mesh", Prefix: netip.MustParsePrefix("10.87.0.0/16")})
	certs := func(ss ...*Signer) (ders [][]byte) {
		for _, s := range ss {
			ders = append(ders, s.Cert())
		}
		return ders
	}
	type step struct {
		by    []*Signer
		epoch uint64
		roots []*Signer
		cas   []*Signer
		want  error
		news  bool
	}
	rotate := step{by: []*Signer{a, b}, epoch: 1, roots: []*Signer{a, b}, news: true}
	sw := step{by: []*Signer{b, a}, epoch: 2, roots: []*Signer{b, a}, news: true}
	retire := step{by: []*Signer{b, a}, epoch: 3, roots: []*Signer{b}, news: true}
	old := func(s step) step { s.news = false; return s }
	refused := func(s step, err error) step { s.news, s.want = false, err; return s }
	for _, tt := range []struct {
		name  string
		start []*Signer
		steps []step
		trust []*Signer
	}{
		{"a rotation", []*Signer{a}, []step{rotate, sw, retire}, []*Signer{b}},
		{"heard backwards", []*Signer{a}, []step{retire, old(sw), old(rotate)}, []*Signer{b}},
		{"heard twice", []*Signer{a}, []step{rotate, old(rotate), sw, old(rotate), old(sw)}, []*Signer{b, a}},
		{"a laggard that hears the end only", []*Signer{a}, []step{retire}, []*Signer{b}},
		{"a newcomer with the new root", []*Signer{b}, []step{retire}, []*Signer{b}},
		{"a stranger to both", []*Signer{third}, []step{refused(retire, ErrUntrusted)}, []*Signer{third}},
		{"the retired root speaks", []*Signer{a}, []step{retire, refused(step{by: []*Signer{a}, epoch: 4, roots: []*Signer{a}}, ErrUntrusted)}, []*Signer{b}},
		{"and once more", []*Signer{a}, []step{
			rotate, sw, retire,
			{by: []*Signer{b, third}, epoch: 4, roots: []*Signer{b, third}, news: true},
			{by: []*Signer{third, b}, epoch: 5, roots: []*Signer{third}, news: true},
		}, []*Signer{third}},
		{"another's mesh's root", []*Signer{a}, []step{refused(step{by: []*Signer{other.root}, epoch: 1, roots: []*Signer{a, other.root}}, ErrUntrusted)}, []*Signer{a}},
		{"a root for other addresses", []*Signer{a}, []step{refused(step{by: []*Signer{a}, epoch: 1, roots: []*Signer{a, elsewhere.root}}, ErrClaims)}, []*Signer{a}},
		{"an issuer as a root", []*Signer{a}, []step{refused(step{by: []*Signer{a}, epoch: 1, roots: []*Signer{p.issuer}}, ErrClaims)}, []*Signer{a}},
		{"a root twice", []*Signer{a}, []step{refused(step{by: []*Signer{a}, epoch: 1, roots: []*Signer{a, a}}, ErrClaims)}, []*Signer{a}},
		{"others certified by another root", []*Signer{a}, []step{refused(step{by: []*Signer{a}, epoch: 1, roots: []*Signer{b, a}, cas: []*Signer{p.issuer}}, ErrClaims)}, []*Signer{a}},
		{"others certified by the current root", []*Signer{a}, []step{{by: []*Signer{a}, epoch: 1, roots: []*Signer{a, b}, cas: []*Signer{p.issuer, p.renewer}, news: true}}, []*Signer{a, b}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start, err := NewRoots(certs(tt.start...)...)
			if err != nil {
				t.Fatal(err)
			}
			r := NewRoll("lab", start)
			for i, s := range tt.steps {
				n := Notice{Kind: NoticeRoots, Epoch: s.epoch, Roots: certs(s.roots...), CAs: certs(s.cas...)}
				_, news, err := r.Add(signed(t, s.by[0], n, s.by[1:]...), testNow)
				if news != s.news || !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
					t.Fatalf("step %d: news %v, %v", i, news, err)
				}
				if s.news && len(r.CAs()) != len(s.cas) {
					t.Errorf("step %d: %d CAs", i, len(r.CAs()))
				}
			}
			if got := r.Roots().Certs(); !slices.EqualFunc(got, certs(tt.trust...), bytes.Equal) {
				t.Errorf("%d roots are trusted, not those wanted", len(got))
			}
			if n, ok := r.RootsNotice(); ok && !slices.EqualFunc(n.Roots, certs(tt.trust...), bytes.Equal) {
				t.Error("the notice tells other roots")
			}
		})
	}
}

// TestRollRetiredRoot: what the old root alone supported falls with it.
func TestRollRetiredRoot(t *testing.T) {
	p := newPKI(t, testMesh)
	next := p.successor(t, testNow)
	d := p.issuerNo(t, 3, "gw-d")
	again, err := Recertify(next.root, p.issuer.Cert(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRoll("lab", p.roots)
	byRoot := addNotice(t, r, testNow, p.root, Notice{Kind: NoticeRevoked, Node: nodeNo(1)})
	addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(2)})
	byD := addNotice(t, r, testNow, d, Notice{Kind: NoticeRevoked, Node: nodeNo(3)})
	addNotice(t, r, testNow, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(p.renewer.cert)})
	addNotice(t, r, testNow, next.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: next.roots.Certs(), CAs: [][]byte{again}}, p.root)
	for i, want := range []bool{1: false, 2: true, 3: false} {
		if _, ok := r.Revoked(nodeNo(i)); ok != want {
			t.Errorf("node %d revoked: %v", i, ok)
		}
	}
	if r.IssuerRevoked(p.renewer.Cert()) || CheckCA(p.renewer.Cert(), r.Roots(), "lab") == nil {
		t.Error("the old root still speaks")
	}
	for _, b := range [][]byte{byRoot, byD} {
		if _, _, err := r.Add(b, testNow); !errors.Is(err, ErrUntrusted) {
			t.Errorf("believed again: %v", err)
		}
	}
	// A notice under the old certificate of an issuer that was certified again.
	if _, news, err := r.Add(signed(t, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(4)}), testNow); err != nil || !news {
		t.Errorf("%v, %v", news, err)
	}
}

func TestRollRestores(t *testing.T) {
	p := newPKI(t, testMesh)
	next := p.successor(t, testNow)
	again, err := Recertify(next.root, p.issuer.Cert(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRoll("lab", p.roots)
	addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(1)})
	addNotice(t, r, testNow, p.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: append(next.roots.Certs(), p.root.Cert()), CAs: [][]byte{again}}, next.root)
	addNotice(t, r, testNow, next.root, Notice{Kind: NoticeRevoked, Node: nodeNo(2)})
	kept := r.Notices()
	slices.Reverse(kept)
	fresh := NewRoll("lab", p.roots) // the roots file was not written yet
	if err := fresh.Restore(kept); err != nil || fresh.Digest() != r.Digest() {
		t.Errorf("another roll: %v", err)
	}
	// The clock stands at 1970 or 2040: who was revoked stays so.
	if _, ok := fresh.Revoked(nodeNo(2)); !ok {
		t.Error("a revocation was forgotten")
	}
	// Notices that lead from root to root, the last one first.
	steps := [][]byte{
		signed(t, next.root, Notice{Kind: NoticeRoots, Epoch: 2, Roots: next.roots.Certs()}),
		signed(t, p.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: [][]byte{p.root.Cert(), next.root.Cert()}}),
	}
	far := NewRoll("lab", p.roots)
	if err := far.Restore(steps); err != nil || !slices.EqualFunc(far.Roots().Certs(), next.roots.Certs(), bytes.Equal) {
		t.Errorf("not at the last root: %v", err)
	}
	bad := append([][]byte{{1}, {2}, {3}, {4}, {5}, {6}}, kept...)
	fresh = NewRoll("lab", p.roots)
	if err := fresh.Restore(bad); !errors.Is(err, ErrNotice) || !strings.Contains(err.Error(), "and 2 more") || fresh.Digest() != r.Digest() {
		t.Errorf("with rubbish: %v", err)
	}
}
