package pki

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drawbridge/discovery"
)

func addNotice(t testing.TB, r *Roll, now time.Time, by *Signer, n Notice, also ...*Signer) []byte {
	t.Helper()
	if n.At.IsZero() {
		n.At = now
	}
	b := signed(t, by, n, also...)
	if _, _, err := r.Add(b, now); err != nil {
		t.Fatal(err)
	}
	return b
}

func nodeNo(n int) discovery.NodeID { return discovery.NodeID(fmt.Sprintf("%032x", n)) }

func TestRollRevokes(t *testing.T) {
	p := newPKI(t, testMesh)
	r := NewRoll("lab", p.roots)
	empty := r.Digest()
	first := signed(t, p.issuer, Notice{Kind: NoticeRevoked, Node: testNode, Name: "gpu-1", At: testNow.Add(time.Minute)})
	n, news, err := r.Add(first, testNow)
	if err != nil || !news || n.By != "gw-b" || n.Name != "gpu-1" {
		t.Fatalf("%+v, %v, %v", n, news, err)
	}
	digest := r.Digest()
	if digest == empty {
		t.Error("the digest did not change")
	}
	if _, news, err := r.Add(first, testNow); err != nil || news || r.Digest() != digest {
		t.Errorf("heard again: %v, %v", news, err)
	}
	// Another gateway says it too, later, and a release changes nothing.
	addNotice(t, r, testNow, p.issuerNo(t, 3, "gw-d"), Notice{Kind: NoticeRevoked, Node: testNode, At: testNow.Add(time.Hour)})
	addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeReleased, Node: testNode, Epoch: 9})
	if n, ok := r.Revoked(testNode); !ok || n.By != "gw-b" || !n.At.Equal(testNow.Add(time.Minute)) {
		t.Errorf("%v %+v", ok, n)
	}
	if _, ok := r.Revoked(nodeNo(2)); ok {
		t.Error("another node is revoked")
	}
	if got := r.List(); len(got) != 3 || got[0].By != "gw-d" || got[2].Kind != NoticeReleased {
		t.Errorf("%+v", got)
	}
	if got := r.Notices(); len(got) != 3 || !slices.IsSortedFunc(got, bytes.Compare) {
		t.Errorf("%d notices", len(got))
	}
	// It holds for 120 days, not longer.
	if n := r.Prune(testNow.Add(NoticeLife)); n != 0 {
		t.Errorf("pruned %d too early", n)
	}
	if n := r.Prune(testNow.Add(NoticeLife + 2*time.Hour)); n != 3 || r.Digest() != empty || len(r.nodes)+len(r.count)+r.total != 0 {
		t.Errorf("pruned %d, left %v", n, r.nodes)
	}
	if _, _, err := r.Add(first, testNow.Add(NoticeLife+2*time.Hour)); !errors.Is(err, ErrNoticeOld) {
		t.Errorf("an old one: %v", err)
	}
}

func TestRollQuarantine(t *testing.T) {
	p := newPKI(t, testMesh)
	b, d := p.issuer, p.issuerNo(t, 3, "gw-d")
	for _, tt := range []struct {
		name  string
		say   []Notice
		by    []*Signer
		apart bool
		epoch uint64
	}{
		{"nothing", nil, nil, false, 0},
		{"set apart", []Notice{{Kind: NoticeQuarantined, Epoch: 1}}, []*Signer{b}, true, 1},
		{"released by another", []Notice{{Kind: NoticeQuarantined, Epoch: 1}, {Kind: NoticeReleased, Epoch: 2}}, []*Signer{b, d}, false, 2},
		{"the release came first", []Notice{{Kind: NoticeReleased, Epoch: 2}, {Kind: NoticeQuarantined, Epoch: 1}}, []*Signer{d, b}, false, 2},
		{"at odds: set apart", []Notice{{Kind: NoticeReleased, Epoch: 2}, {Kind: NoticeQuarantined, Epoch: 2}}, []*Signer{d, b}, true, 2},
		{"at odds with oneself: set apart", []Notice{{Kind: NoticeQuarantined, Epoch: 2}, {Kind: NoticeReleased, Epoch: 2, At: testNow.Add(time.Hour)}}, []*Signer{b, b}, true, 2},
		{"again", []Notice{{Kind: NoticeQuarantined, Epoch: 1}, {Kind: NoticeReleased, Epoch: 2}, {Kind: NoticeQuarantined, Epoch: 3}}, []*Signer{b, b, d}, true, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRoll("lab", p.roots)
			for i, n := range tt.say {
				n.Node = testNode
				addNotice(t, r, testNow, tt.by[i], n)
			}
			if n, ok := r.Quarantined(testNode); ok != tt.apart || ok && n.Epoch != tt.epoch {
				t.Errorf("%v %+v", ok, n)
			}
			if got := r.QuarantineEpoch(testNode); got != tt.epoch {
				t.Errorf("epoch %d, want %d", got, tt.epoch)
			}
		})
	}
}

func TestRollTime(t *testing.T) {
	p := newPKI(t, testMesh)
	b := signed(t, p.issuer, Notice{Kind: NoticeRevoked, Node: testNode})
	for _, tt := range []struct {
		name string
		now  time.Time
		want error
	}{
		{"a day ahead", testNow.Add(-NoticeEarly), nil},
		{"more than a day ahead", testNow.Add(-NoticeEarly - time.Second), ErrNoticeFuture},
		{"clock at 1970", time.Unix(0, 0), ErrNoticeFuture},
		{"120 days old", testNow.Add(NoticeLife), nil},
		{"older", testNow.Add(NoticeLife + time.Second), ErrNoticeOld},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, news, err := NewRoll("lab", p.roots).Add(b, tt.now); !errors.Is(err, tt.want) || news != (tt.want == nil) {
				t.Errorf("news %v, %v", news, err)
			}
		})
	}
	// What concerns certificates that live for years does not age.
	r := NewRoll("lab", p.roots)
	void := signed(t, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(p.issuer.cert)})
	roots := signed(t, p.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: p.roots.Certs()})
	for _, b := range [][]byte{void, roots} {
		if _, _, err := r.Add(b, testNow.Add(5*365*day)); err != nil {
			t.Error(err)
		}
	}
	if r.Prune(testNow.Add(9*365*day)) != 0 || !r.IssuerRevoked(p.issuer.Cert()) {
		t.Error("an issuer's revocation was forgotten")
	}
}

// forgeNotice signs without asking whether the signer may.
func forgeNotice(t testing.TB, cert []byte, key ed25519.PrivateKey, n Notice) []byte {
	t.Helper()
	text, err := noticeText(n, [][]byte{cert})
	if err != nil {
		t.Fatal(err)
	}
	return append(slices.Clone(text), ed25519.Sign(key, signedText("lab", text))...)
}

func TestRollTrustsNobodyElse(t *testing.T) {
	p, other := newPKI(t, testMesh), newPKI(t, testMesh)
	about := Notice{Kind: NoticeRevoked, Node: testNode, Reason: "operator", At: testNow}
	whole := p.forgedIssuer(t, testMesh.Prefix)
	node := p.issue(t, testClaims())
	late := about
	late.At = testNow.Add(IssuerLife + day)
	ancient := about
	ancient.At = testNow.Add(RootLife + day)
	sub, err := sign(authorityOf(p.issuer), p.issuer.cert, public(seeded(7)), p.issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	self, err := sign(authorityOf(p.issuer), authorityOf(p.issuer), public(seeded(7)), seeded(7))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		now  time.Time
		want error
	}{
		{"another mesh's issuer", forgeNotice(t, other.issuer.Cert(), other.issuer.key, about), testNow, ErrUntrusted},
		{"another mesh's root", forgeNotice(t, other.root.Cert(), other.root.key, about), testNow, ErrUntrusted},
		{"another mesh's root revokes an issuer", forgeNotice(t, other.root.Cert(), other.root.key, Notice{Kind: NoticeIssuerRevoked, Reason: "x", At: testNow}), testNow, ErrUntrusted},
		{"the right certificate, another key", forgeNotice(t, p.issuer.Cert(), seeded(99), about), testNow, ErrUntrusted},
		{"a renewer", forgeNotice(t, p.renewer.Cert(), p.renewer.key, about), testNow, ErrNotice},
		{"a node", forgeNotice(t, node[0], seeded(1), about), testNow, ErrNotice},
		{"an issuer for the whole mesh", forgeNotice(t, whole.Cert(), whole.key, about), testNow, ErrNotice},
		{"an issuer below an issuer", forgeNotice(t, sub, seeded(7), about), testNow, ErrUntrusted},
		{"an issuer of its own", forgeNotice(t, self, seeded(7), about), testNow, ErrUntrusted},
		{"an issuer after its end", forgeNotice(t, p.issuer.Cert(), p.issuer.key, late), late.At, ErrUntrusted},
		{"a root after its end", forgeNotice(t, p.root.Cert(), p.root.key, ancient), ancient.At, ErrUntrusted},
		{"an issuer revokes an issuer", forgeNotice(t, p.issuer.Cert(), p.issuer.key, Notice{Kind: NoticeIssuerRevoked, Reason: "x", At: testNow}), testNow, ErrNotice},
		{"an issuer names roots", forgeNotice(t, p.issuer.Cert(), p.issuer.key, Notice{Kind: NoticeRoots, Reason: "x", At: testNow, Roots: other.roots.Certs()}), testNow, ErrNotice},
		{"nothing", nil, testNow, ErrNotice},
		{"huge", make([]byte, MaxNotice+1), testNow, ErrNotice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRoll("lab", p.roots)
			if n, news, err := r.Add(tt.b, tt.now); !errors.Is(err, tt.want) || news || n.Kind != "" {
				t.Errorf("%+v, %v, %v; want %v", n, news, err, tt.want)
			}
			if len(r.Notices()) != 0 {
				t.Error("it was kept")
			}
		})
	}
	if _, news, err := NewRoll("lab", p.roots).Add(forgeNotice(t, p.issuer.Cert(), p.issuer.key, about), testNow); err != nil || !news {
		t.Errorf("a good one must pass, or the table proves nothing: %v", err)
	}
}

// authorityOf is a template with the words of an issuer.
func authorityOf(s *Signer) *x509.Certificate {
	t := authority(s.cert.Subject.CommonName, testNow.Add(-Backdate), testNow.Add(IssuerLife), netip.MustParsePrefix("10.86.16.0/20"), testMesh)
	t.MaxPathLenZero = true
	return t
}

func TestRollVoidsWhatARevokedIssuerSaid(t *testing.T) {
	p := newPKI(t, testMesh)
	d := p.issuerNo(t, 3, "gw-d")
	r := NewRoll("lab", p.roots)
	addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(1)})
	both := addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(2)})
	addNotice(t, r, testNow, d, Notice{Kind: NoticeRevoked, Node: nodeNo(2)})
	addNotice(t, r, testNow, d, Notice{Kind: NoticeQuarantined, Node: nodeNo(3), Epoch: 1})
	addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeReleased, Node: nodeNo(3), Epoch: 1 << 40})
	if _, ok := r.Quarantined(nodeNo(3)); ok {
		t.Error("not released")
	}
	if r.IssuerRevoked(p.issuer.Cert()) {
		t.Error("revoked already")
	}
	addNotice(t, r, testNow, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(p.issuer.cert)})
	if !r.IssuerRevoked(p.issuer.Cert()) || r.IssuerRevoked(d.Cert()) || !r.IssuerRevoked([]byte("rubbish")) {
		t.Error("the wrong issuer is revoked")
	}
	if _, ok := r.Revoked(nodeNo(1)); ok {
		t.Error("what it said still holds")
	}
	if n, ok := r.Revoked(nodeNo(2)); !ok || n.By != "gw-d" {
		t.Errorf("what another said is gone: %+v", n)
	}
	if n, ok := r.Quarantined(nodeNo(3)); !ok || n.By != "gw-d" || r.QuarantineEpoch(nodeNo(3)) != 1 {
		t.Errorf("what it overtook did not come back: %+v", n)
	}
	if _, _, err := r.Add(both, testNow); !errors.Is(err, ErrUntrusted) {
		t.Errorf("it says it again: %v", err)
	}
	chain := p.issue(t, testClaims())
	if id, key, err := r.Verify(chain, testNow); !errors.Is(err, ErrRevoked) || id.ID != "" || key != nil {
		t.Errorf("its certificates hold: %+v, %v", id, err)
	}
	// Renewed by another, they are still its.
	if _, _, err := r.Verify(p.renew(t, chain), testNow); !errors.Is(err, ErrRevoked) {
		t.Errorf("its renewed certificates hold: %v", err)
	}
}

func TestRollVerify(t *testing.T) {
	p := newPKI(t, testMesh)
	chain := p.issue(t, testClaims())
	r := NewRoll("lab", p.roots)
	id, _, err := r.Verify(chain, testNow)
	if err != nil || id.Name != "gpu-1" {
		t.Fatal(err)
	}
	if late, _, err := r.Verify(chain, testNow.Add(NodeLife+day)); !errors.Is(err, ErrExpired) || late.ID != id.ID {
		t.Errorf("expired: %+v, %v", late, err)
	}
	addNotice(t, r, testNow, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(p.renewer.cert)})
	if _, _, err := r.Verify(chain, testNow); err != nil {
		t.Errorf("another issuer was revoked: %v", err)
	}
	if _, _, err := r.Verify(p.renew(t, chain), testNow); !errors.Is(err, ErrRevoked) {
		t.Errorf("its renewals hold: %v", err)
	}
	addNotice(t, r, testNow, p.issuer, Notice{Kind: NoticeRevoked, Node: id.ID, Reason: "stolen"})
	for _, now := range []time.Time{testNow, testNow.Add(NodeLife + day)} {
		if got, key, err := r.Verify(chain, now); !errors.Is(err, ErrRevoked) || got.ID != "" || key != nil || !strings.Contains(err.Error(), "stolen") {
			t.Errorf("revoked: %+v, %v", got, err)
		}
	}
	if _, _, err := r.Verify(nil, testNow); !errors.Is(err, ErrUntrusted) {
		t.Errorf("no chain: %v", err)
	}
}

func TestRollIsBounded(t *testing.T) {
	p := newPKI(t, testMesh)
	d := p.issuerNo(t, 3, "gw-d")
	r := NewRoll("lab", p.roots)
	// As if gw-b had said a lot before.
	r.count[keyOf(p.issuer.cert)], r.total = maxIssuerNotices-1, maxIssuerNotices-1
	last := Notice{Kind: NoticeQuarantined, Node: nodeNo(1), Epoch: 1}
	addNotice(t, r, testNow, p.issuer, last)
	_, _, err := r.Add(signed(t, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(2)}), testNow)
	if !errors.Is(err, ErrNoticeFull) || !strings.Contains(err.Error(), "2048 by gw-b") {
		t.Errorf("one more: %v", err)
	}
	last.Epoch = 2 // in the place of the other
	addNotice(t, r, testNow, p.issuer, last)
	addNotice(t, r, testNow, d, last)
	r.count[keyOf(p.root.cert)] = maxIssuerNotices // the root may say more
	addNotice(t, r, testNow, p.root, last)
	r.total = maxNotices
	for _, s := range []*Signer{d, p.root} {
		if _, _, err := r.Add(signed(t, s, Notice{Kind: NoticeRevoked, Node: nodeNo(3)}), testNow); !errors.Is(err, ErrNoticeFull) {
			t.Errorf("%s finds room: %v", s, err)
		}
	}
	// Whoever filled it up can be revoked.
	addNotice(t, r, testNow, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(p.issuer.cert)})
	for i := range maxIssuerRevoked - 1 {
		r.void[[32]byte{1, byte(i), byte(i >> 8)}] = 1
	}
	if _, _, err := r.Add(signed(t, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(d.cert)}), testNow); !errors.Is(err, ErrNoticeFull) {
		t.Errorf("an issuer more: %v", err)
	}
}

func TestRollConcurrent(t *testing.T) {
	p := newPKI(t, testMesh)
	r := NewRoll("lab", p.roots)
	chain := p.issue(t, testClaims())
	var notices [][]byte
	for i := range 20 {
		notices = append(notices, signed(t, p.issuer, Notice{Kind: NoticeRevoked, Node: nodeNo(i)}))
	}
	notices = append(notices, signed(t, p.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: p.roots.Certs(), CAs: [][]byte{p.issuer.Cert()}}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, b := range notices {
				if _, _, err := r.Add(b, testNow); err != nil {
					t.Error(err)
				}
				r.Digest()
				r.Notices()
				r.List()
				r.Revoked(nodeNo(1))
				r.Prune(testNow)
				if _, _, err := r.Verify(chain, testNow); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(r.Notices()) != 21 {
		t.Errorf("%d notices", len(r.Notices()))
	}
}
