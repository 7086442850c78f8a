package rootca

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

type stepFunc = func(*statedir.Dir, [][]byte, uint64, time.Time) ([]byte, error)

func mustTake(t testing.TB, step stepFunc, dir *statedir.Dir, cas [][]byte, epoch uint64) []byte {
	t.Helper()
	var b []byte
	err := dir.Update(func() (err error) { b, err = step(dir, cas, epoch, testNow.Add(time.Duration(epoch)*day)); return err })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// keyed is a renewer for another key than was granted.
func keyed(t testing.TB, req Request, n int, dir *statedir.Dir) []byte {
	t.Helper()
	root, err := Signer(dir)
	if err != nil {
		t.Fatal(err)
	}
	der, err := pki.NewRenewer(root, public(n), req.Name, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// member is a node of the mesh: what it trusts, and its chain.
type member struct {
	roll  *pki.Roll
	chain [][]byte
}

func newMember(t testing.TB, trusted [][]byte, chain [][]byte) member {
	t.Helper()
	r, err := pki.NewRoots(trusted...)
	if err != nil {
		t.Fatal(err)
	}
	return member{pki.NewRoll("lab", r), chain}
}

func (m member) hear(t testing.TB, notices ...[]byte) {
	t.Helper()
	for _, b := range notices {
		if _, _, err := m.roll.Add(b, testNow.Add(3*day)); err != nil {
			t.Fatal(err)
		}
	}
}

// believes tells whether one node believes another's chain, as that presents it.
func (m member) believes(chain [][]byte) bool {
	_, _, err := m.roll.Verify(chain, testNow.Add(3*day))
	return err == nil
}

// chainOf is a server's, certified by one gateway and renewed by another.
func chainOf(t testing.TB, by Grant, byKey int, renewed Grant, renewedKey int) [][]byte {
	t.Helper()
	issuer, err := pki.NewSigner(by.Issuer, seeded(byKey))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.IssueNode(issuer, pki.Claims{
		Name: "gpu-1", Site: "idc", Role: discovery.RoleServer, Addr: pki.FirstAddr(by.Block).Next(), Identity: public(50), WireGuard: [32]byte{1},
	}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	renewer, err := pki.NewSigner(renewed.Renewer, seeded(renewedKey))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.RenewNode(renewer, [][]byte{leaf, by.Issuer}, 0, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func keyFiles(t testing.TB, dir *statedir.Dir) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir.Path(), "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
		names[i] = filepath.Base(name)
	}
	return names
}

func TestRotation(t *testing.T) {
	dir := newRootDir(t)
	first := roots(t, dir)
	oldKey, err := dir.RootKey()
	if err != nil {
		t.Fatal(err)
	}
	g1, g2 := mustSign(t, dir, request(t, dir, 1), testNow), mustSign(t, dir, request(t, dir, 2), testNow)
	cas := [][]byte{g1.Issuer, g1.Renewer, g2.Issuer, g2.Renewer}
	chain := chainOf(t, g1, 1, g2, 2)
	alert, laggard := newMember(t, first, chain), newMember(t, first, chain)

	rotate := mustTake(t, Rotate, dir, cas, 1)
	alert.hear(t, rotate)
	second := roots(t, dir)
	if len(second) != 2 || !bytes.Equal(second[0], first[0]) || !slices.Equal(keyFiles(t, dir), []string{"next-root.key", "root.key"}) {
		t.Fatalf("after rotate: %d roots, keys %v", len(second), keyFiles(t, dir))
	}
	if g3 := mustSign(t, dir, request(t, dir, 3), testNow); !alert.believes(chainOf(t, g3, 3, g2, 2)) || !laggard.believes(chainOf(t, g3, 3, g2, 2)) {
		t.Error("the second root certifies already")
	}

	swap := mustTake(t, Switch, dir, cas, 2)
	alert.hear(t, swap)
	newcomer := newMember(t, roots(t, dir)[:1], nil)
	newcomer.hear(t, swap)
	if got := roots(t, dir); !bytes.Equal(got[0], second[1]) || !bytes.Equal(got[1], first[0]) || !slices.Equal(keyFiles(t, dir), []string{"old-root.key", "root.key"}) {
		t.Fatalf("after switch: %d roots, keys %v", len(got), keyFiles(t, dir))
	}
	fresh := alert.roll.Refresh(chain)
	for name, m := range map[string]member{"alert": alert, "newcomer": newcomer} {
		if !m.believes(chain) || !m.believes(fresh) {
			t.Errorf("after the switch the %s node does not believe", name)
		}
	}
	if !laggard.believes(chain) || laggard.believes(fresh) {
		t.Error("the laggard believes the wrong chain")
	}
	g4 := mustSign(t, dir, request(t, dir, 4), testNow)
	if !alert.believes(chainOf(t, g4, 4, g4, 4)) {
		t.Error("what the new root certifies is not believed")
	}

	retire := mustTake(t, Retire, dir, append(cas, g4.Issuer, g4.Renewer), 3)
	alert.hear(t, retire)
	newcomer.hear(t, retire)
	laggard.hear(t, retire) // it heard nothing of the rest
	if got := roots(t, dir); len(got) != 1 || !bytes.Equal(got[0], second[1]) || !slices.Equal(keyFiles(t, dir), []string{"root.key"}) {
		t.Fatalf("after retire: %d roots, keys %v", len(got), keyFiles(t, dir))
	}
	if key, err := dir.RootKey(); err != nil || key.Equal(oldKey) {
		t.Errorf("the old key is still there: %v", err)
	}
	for name, m := range map[string]member{"alert": alert, "newcomer": newcomer, "laggard": laggard} {
		if !m.believes(chain) || !m.believes(fresh) {
			t.Errorf("at the end the %s node does not believe", name)
		}
		if certs := m.roll.Roots().Certs(); len(certs) != 1 || !bytes.Equal(certs[0], second[1]) {
			t.Errorf("the %s node trusts %d roots", name, len(certs))
		}
		if m.roll.Digest() != alert.roll.Digest() {
			t.Errorf("the %s node holds other notices", name)
		}
	}
	// Without the notice a pinned new root knows nothing of the old chain.
	if newMember(t, second[1:], nil).believes(chain) {
		t.Error("the old root still counts")
	}
	want := []string{"created", "granted", "granted", "rotate", "granted", "switch", "granted", "retire"}
	if got := events(t, dir); !slices.Equal(got, want) {
		t.Errorf("history: %v", got)
	}
	// And once more, with what the last notice carried.
	mustTake(t, Rotate, dir, nil, 4)
	last, err := pki.ReadNotice(mustTake(t, Switch, dir, nil, 5))
	if err != nil || len(last.CAs) != 6 {
		t.Errorf("%d certificates in the next rotation, %v", len(last.CAs), err)
	}
}

func TestRotationStepsInOrder(t *testing.T) {
	dir := newRootDir(t)
	refused := func(step stepFunc, epoch uint64, want string) {
		t.Helper()
		before, told := keyFiles(t, dir), len(events(t, dir))
		if b, err := step(dir, nil, epoch, testNow); !errors.Is(err, ErrStep) || !strings.Contains(err.Error(), want) || b != nil {
			t.Errorf("got %v, want %q", err, want)
		}
		if !slices.Equal(keyFiles(t, dir), before) || len(events(t, dir)) != told {
			t.Error("it did something")
		}
	}
	refused(Switch, 1, "begin with rotate")
	refused(Retire, 1, "begin with rotate")
	one := mustTake(t, Rotate, dir, nil, 1)
	if again := mustTake(t, Rotate, dir, nil, 1); !bytes.Equal(one, again) {
		t.Error("repeated, another notice")
	}
	refused(Retire, 2, "next is switch")
	refused(Switch, 1, "publish its notice first")
	g := mustSign(t, dir, request(t, dir, 1), testNow)
	more, err := pki.ReadNotice(mustTake(t, Rotate, dir, [][]byte{g.Issuer}, 5))
	if err != nil || len(more.CAs) != 1 || more.Epoch != 5 || !bytes.Equal(more.CAs[0], g.Issuer) {
		t.Errorf("repeated with more: %+v, %v", more, err)
	}
	refused(Rotate, 4, "was 5")
	two := mustTake(t, Switch, dir, nil, 6)
	if again := mustTake(t, Switch, dir, nil, 6); !bytes.Equal(two, again) {
		t.Error("repeated, another notice")
	}
	refused(Rotate, 7, "next is retire")
	refused(Retire, 6, "was 6")
	three := mustTake(t, Retire, dir, nil, 7)
	for _, epoch := range []uint64{7, 8} {
		if again := mustTake(t, Retire, dir, nil, epoch); !bytes.Equal(three, again) {
			t.Error("repeated, another notice")
		}
	}
	refused(Switch, 9, "begin with rotate")
}

func TestRotationRefusesStrangers(t *testing.T) {
	dir, other := newRootDir(t), newRootDir(t)
	g := mustSign(t, other, request(t, other, 1), testNow)
	for name, ca := range map[string][]byte{"another mesh's": g.Issuer, "the root": roots(t, dir)[0], "rubbish": {1}} {
		if b, err := Rotate(dir, [][]byte{ca}, 1, testNow); err == nil || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(roots(t, dir)) != 1 || !slices.Equal(keyFiles(t, dir), []string{"root.key"}) {
		t.Error("it did something")
	}
	if err := dir.RemoveRootKey(); err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]stepFunc{"rotate": Rotate, "switch": Switch, "retire": Retire} {
		if _, err := step(dir, nil, 1, testNow); !errors.Is(err, ErrNoRootKey) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s without the key: %v", name, err)
		}
	}
}

// TestRotationSecondKeyLost: then that root is dropped, and all begins anew.
func TestRotationSecondKeyLost(t *testing.T) {
	dir := newRootDir(t)
	first := roots(t, dir)
	node := newMember(t, first, nil)
	node.hear(t, mustTake(t, Rotate, dir, nil, 1))
	if err := dir.RemoveNextRootKey(); err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string]stepFunc{"rotate": Rotate, "switch": Switch} {
		if _, err := step(dir, nil, 2, testNow); !errors.Is(err, ErrStep) || !strings.Contains(err.Error(), "drop that root with retire") {
			t.Errorf("%s: %v", name, err)
		}
	}
	node.hear(t, mustTake(t, Retire, dir, nil, 2))
	if got := node.roll.Roots().Certs(); len(got) != 1 || !bytes.Equal(got[0], first[0]) {
		t.Errorf("%d roots", len(got))
	}
	mustTake(t, Rotate, dir, nil, 3)
}

// TestRotationAfterACrash interrupts every step at every change of a file.
// Whatever is there then, the root signs, and the step can be repeated.
func TestRotationAfterACrash(t *testing.T) {
	crash := errors.New("crash")
	steps := []stepFunc{Rotate, Switch, Retire}
	for which := range steps {
		for at := 0; ; at++ {
			dir := newRootDir(t)
			first := roots(t, dir)
			g := mustSign(t, dir, request(t, dir, 1), testNow)
			cas := [][]byte{g.Issuer, g.Renewer}
			var notices [][]byte
			reached := false
			for i, step := range steps {
				epoch := uint64(i + 1)
				if i != which {
					notices = append(notices, mustTake(t, step, dir, cas, epoch))
					continue
				}
				n := 0
				dir.Interrupt(func(string, bool) error {
					if n++; n > at {
						return crash
					}
					return nil
				})
				_, err := step(dir, cas, epoch, testNow.Add(time.Duration(epoch)*day))
				reached = errors.Is(err, crash)
				if err != nil && !reached {
					t.Fatal(err)
				}
				dir.Interrupt(nil)
				if _, err := Signer(dir); err != nil {
					t.Fatalf("step %d, change %d: nobody can sign: %v", which, at, err)
				}
				mustSign(t, dir, request(t, dir, 2), testNow.Add(day))
				notices = append(notices, mustTake(t, step, dir, cas, epoch))
			}
			if !reached {
				if at < 4 {
					t.Fatalf("step %d has %d changes only", which, at)
				}
				break
			}
			if !slices.Equal(keyFiles(t, dir), []string{"root.key"}) || len(roots(t, dir)) != 1 || bytes.Equal(roots(t, dir)[0], first[0]) {
				t.Fatalf("step %d, change %d: keys %v", which, at, keyFiles(t, dir))
			}
			all, laggard := newMember(t, first, nil), newMember(t, first, nil)
			all.hear(t, notices...)
			laggard.hear(t, notices[2])
			chain := chainOf(t, g, 1, g, 1)
			if !all.believes(chain) || !laggard.believes(chain) || all.roll.Digest() != laggard.roll.Digest() {
				t.Fatalf("step %d, change %d: the mesh does not follow", which, at)
			}
		}
	}
}

func TestRevokeIssuer(t *testing.T) {
	dir, other := newRootDir(t), newRootDir(t)
	first := roots(t, dir)
	g1, g2 := mustSign(t, dir, request(t, dir, 1), testNow), mustSign(t, dir, request(t, dir, 2), testNow)
	stranger := mustSign(t, other, request(t, other, 1), testNow)
	node := newMember(t, first, nil)
	good, bad := chainOf(t, g2, 2, g2, 2), chainOf(t, g1, 1, g2, 2)
	b, err := RevokeIssuer(dir, g1.Renewer, "stolen", testNow)
	if err != nil {
		t.Fatal(err)
	}
	node.hear(t, b)
	if !node.believes(good) || node.believes(bad) || !node.roll.IssuerRevoked(g1.Issuer) {
		t.Error("the wrong issuer is revoked")
	}
	if n := node.roll.List()[0]; n.Name != "gw-1" || n.Reason != "stolen" || n.By != pki.ByRoot {
		t.Errorf("%+v", n)
	}
	if kept, err := dir.Notices(); err != nil || len(kept) != 1 || !bytes.Equal(kept[0], b) {
		t.Errorf("kept %d, %v", len(kept), err)
	}
	for name, ca := range map[string][]byte{"another mesh's": stranger.Issuer, "the root": first[0], "rubbish": {1}} {
		if b, err := RevokeIssuer(dir, ca, "stolen", testNow); err == nil || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := RevokeIssuer(dir, g2.Issuer, "Two words", testNow); err == nil {
		t.Error("a reason of two words")
	}
	if got := events(t, dir); !slices.Equal(got, []string{"created", "granted", "granted", "issuer-revoked"}) {
		t.Errorf("history: %v", got)
	}
	// It is not certified by the next root.
	mustTake(t, Rotate, dir, [][]byte{g1.Issuer, g2.Issuer}, 1)
	n, err := pki.ReadNotice(mustTake(t, Switch, dir, [][]byte{g1.Issuer, g1.Renewer, g2.Issuer, g2.Renewer}, 2))
	if err != nil || len(n.CAs) != 2 || pki.Gateway(n.CAs[0]) != "gw-2" || pki.Gateway(n.CAs[1]) != "gw-2" {
		t.Errorf("%d certificates, %v", len(n.CAs), err)
	}
	// What was certified again is not made once more.
	again, err := pki.ReadNotice(mustTake(t, Switch, dir, [][]byte{g2.Issuer, g2.Renewer}, 3))
	if err != nil || !slices.EqualFunc(again.CAs, n.CAs, bytes.Equal) {
		t.Errorf("%d certificates, others than before, %v", len(again.CAs), err)
	}
}

func TestReissue(t *testing.T) {
	dir := newRootDir(t)
	first := roots(t, dir)
	g := mustSign(t, dir, request(t, dir, 1), testNow)
	cas := [][]byte{g.Issuer, g.Renewer}
	node := newMember(t, first, nil)
	say := func(s *pki.Signer, id discovery.NodeID) []byte {
		b, err := pki.SignNotice(s, "lab", pki.Notice{Kind: pki.NoticeRevoked, Node: id, Reason: "stolen", At: testNow})
		if err != nil {
			t.Fatal(err)
		}
		node.hear(t, b)
		return b
	}
	root, err := Signer(dir)
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := pki.NewSigner(g.Issuer, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	say(root, nodeNo(21))
	say(gateway, nodeNo(22))
	if out, err := Reissue(dir, node.roll.Notices(), testNow); err != nil || len(out) != 0 {
		t.Errorf("%d were signed again, though no root retires: %v", len(out), err)
	}
	node.hear(t, mustTake(t, Rotate, dir, cas, 1), mustTake(t, Switch, dir, cas, 2))
	current, err := Signer(dir)
	if err != nil {
		t.Fatal(err)
	}
	say(current, nodeNo(23))
	out, err := Reissue(dir, node.roll.Notices(), testNow.Add(2*day))
	if err != nil || len(out) != 1 {
		t.Fatalf("%d were signed again, %v", len(out), err)
	}
	node.hear(t, out...)
	node.hear(t, mustTake(t, Retire, dir, cas, 3))
	late := newMember(t, first, nil) // hears all at the end
	if err := late.roll.Restore(node.roll.Notices()); err != nil {
		t.Error(err)
	}
	kept, err := dir.Notices()
	if err != nil {
		t.Fatal(err)
	}
	offline := newMember(t, roots(t, dir), nil)
	if err := offline.roll.Restore(kept); err != nil {
		t.Error(err)
	}
	for i, want := range map[int][3]bool{21: {true, true, true}, 22: {true, true, false}, 23: {true, true, false}} {
		for j, m := range []member{node, late, offline} {
			if _, ok := m.roll.Revoked(nodeNo(i)); ok != want[j] {
				t.Errorf("node %d revoked at %d: %v", i, j, ok)
			}
		}
	}
	if got := events(t, dir); !slices.Contains(got, "reissued") {
		t.Errorf("history: %v", got)
	}
}

// TestSignerTellsNoKey: nothing that is printed of a root holds its key.
func TestSignerTellsNoKey(t *testing.T) {
	dir := newRootDir(t)
	key, err := dir.RootKey()
	if err != nil {
		t.Fatal(err)
	}
	g := mustSign(t, dir, request(t, dir, 1), testNow)
	journal, err := os.ReadFile(filepath.Join(dir.Path(), "history", "events-00000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{[]byte(g.Encode()), []byte(request(t, dir, 1).Encode()), mustTake(t, Rotate, dir, nil, 1), journal} {
		if bytes.Contains(text, key.Seed()) || bytes.Contains(text, []byte("PRIVATE")) {
			t.Error("the root key got out")
		}
	}
}
