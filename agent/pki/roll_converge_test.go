package pki

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestRollConverges: whatever the order, the same notices make the same roll.
func TestRollConverges(t *testing.T) {
	p := newPKI(t, testMesh)
	next := p.successor(t, testNow)
	signers := []*Signer{p.root, p.issuer, p.issuerNo(t, 3, "gw-d"), p.issuerNo(t, 4, "gw-e")}
	rnd := rand.New(rand.NewPCG(1, 2))
	var talk [][]byte
	for range 60 {
		kind := []NoticeKind{NoticeRevoked, NoticeQuarantined, NoticeReleased}[rnd.IntN(3)]
		talk = append(talk, signed(t, signers[rnd.IntN(len(signers))], Notice{
			Kind: kind, Node: nodeNo(rnd.IntN(6)), Epoch: rnd.Uint64N(3), At: testNow.Add(time.Duration(rnd.IntN(4)) * time.Hour),
		}))
	}
	void := [][]byte{
		signed(t, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(signers[3].cert)}),
		signed(t, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: keyOf(signers[3].cert), At: testNow.Add(time.Hour)}),
		signed(t, p.root, Notice{Kind: NoticeIssuerRevoked, Issuer: [32]byte{1}}),
	}
	var cas [][]byte
	for _, s := range signers[1:3] {
		der, err := Recertify(next.root, s.Cert(), testNow)
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, der)
	}
	both := [][]byte{p.root.Cert(), next.root.Cert()}
	roots := [][]byte{
		signed(t, p.root, Notice{Kind: NoticeRoots, Epoch: 1, Roots: both}, next.root),
		signed(t, next.root, Notice{Kind: NoticeRoots, Epoch: 2, Roots: [][]byte{both[1], both[0]}, CAs: cas}, p.root),
		signed(t, next.root, Notice{Kind: NoticeRoots, Epoch: 3, Roots: both[1:], CAs: cas}, p.root),
		signed(t, next.root, Notice{Kind: NoticeRevoked, Node: nodeNo(7)}),
	}
	for _, tt := range []struct {
		name string
		all  [][]byte
		once bool // nothing has to be offered again
		left int  // signers who are still believed
	}{
		{"about nodes", talk, true, 4},
		{"a revoked issuer", slices.Concat(talk, void), true, 3},
		{"a new root", slices.Concat(talk, void, roots), false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want [8]byte
			for i := range 30 {
				r := NewRoll("lab", p.roots)
				all := slices.Clone(tt.all)
				rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				settle(t, r, all, tt.once)
				if i == 0 {
					want = r.Digest()
					check(t, r, tt.all)
				}
				if r.Digest() != want {
					t.Fatalf("order %d ends in another roll", i)
				}
				by := map[string]bool{}
				for _, n := range r.List() {
					if n.aboutNode() && n.Node != nodeNo(7) {
						by[n.By] = true
					}
				}
				if len(by) != tt.left {
					t.Errorf("believed: %v", by)
				}
				restored := NewRoll("lab", p.roots)
				if err := restored.Restore(r.Notices()); err != nil || restored.Digest() != want {
					t.Fatalf("restored as another roll: %v", err)
				}
			}
			// Two halves of the mesh that tell each other what they hold.
			a, b := NewRoll("lab", p.roots), NewRoll("lab", p.roots)
			for i, n := range tt.all {
				_, _, _ = []*Roll{a, b}[i%2].Add(n, testNow)
			}
			for range 4 {
				for _, n := range a.Notices() {
					_, _, _ = b.Add(n, testNow)
				}
				for _, n := range b.Notices() {
					_, _, _ = a.Add(n, testNow)
				}
			}
			if a.Digest() != b.Digest() {
				t.Error("two halves stay apart")
			}
		})
	}
}

// settle offers notices until there is no news.
func settle(t *testing.T, r *Roll, all [][]byte, once bool) {
	t.Helper()
	for round := range 5 {
		any := false
		for _, b := range all {
			_, news, err := r.Add(b, testNow)
			if err != nil && !errors.Is(err, ErrUntrusted) {
				t.Fatal(err)
			}
			any = any || news
		}
		if !any {
			return
		}
		if once && round > 0 {
			t.Fatal("news in the second round")
		}
	}
	t.Fatal("news in every round")
}

// check compares a roll with what a plain reading of all notices gives.
func check(t *testing.T, r *Roll, all [][]byte) {
	t.Helper()
	for i := range 6 {
		id := nodeNo(i)
		revoked, epoch, apart := false, uint64(0), false
		for _, b := range all {
			h, err := r.read(b)
			if err != nil {
				t.Fatal(err)
			}
			if h.Node != id || r.vouch(h) != nil {
				continue
			}
			switch {
			case h.Kind == NoticeRevoked:
				revoked = true
			case h.Epoch > epoch:
				epoch, apart = h.Epoch, h.Kind == NoticeQuarantined
			case h.Epoch == epoch:
				apart = apart || h.Kind == NoticeQuarantined
			}
		}
		if _, ok := r.Revoked(id); ok != revoked {
			t.Errorf("node %d revoked: %v", i, ok)
		}
		if _, ok := r.Quarantined(id); ok != apart || r.QuarantineEpoch(id) != epoch {
			t.Errorf("node %d set apart: %v in epoch %d, want %v in %d", i, ok, r.QuarantineEpoch(id), apart, epoch)
		}
	}
}
