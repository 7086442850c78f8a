package enroll

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// step takes one step of a root's rotation at l, and tells the others.
func (l *lab) step(t *testing.T, f func(*statedir.Dir, [][]byte, uint64, time.Time) ([]byte, error), epoch uint64, others ...*lab) {
	t.Helper()
	all := append([]*lab{l}, others...)
	var cas [][]byte
	for _, g := range all {
		for _, f := range []func() ([]byte, error){g.dir.Issuer, g.dir.Renewer} {
			ca, err := f()
			if err != nil {
				t.Fatal(err)
			}
			cas = append(cas, ca)
		}
	}
	var notice []byte
	if err := l.dir.Update(func() (err error) { notice, err = f(l.dir, cas, epoch, l.now()); return err }); err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if _, _, err := g.roll.Add(notice, g.now()); err != nil {
			t.Fatal(err)
		}
		if err := g.dir.SetNotices(g.roll.Notices()); err != nil {
			t.Fatal(err)
		}
		if err := g.dir.SetRoots(g.roll.Roots().Certs()); err != nil {
			t.Fatal(err)
		}
		if _, err := Refresh(g.dir, g.roll); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTokensThroughARotation has tokens that pin the old root redeemed at every
// step, at a gateway that has the root key and at one that has not.
func TestTokensThroughARotation(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	many := func(o *TokenOptions) { o.Uses = 20 }
	old := map[*lab]*pki.Token{l: l.token(t, many), b: b.token(t, many)}
	n := joined(t, l, "veteran")
	i := 0
	joins := func(what string, tok *pki.Token, roots int) {
		t.Helper()
		i++
		o := options(t, tok, "gpu-"+string(rune('a'+i)))
		mustJoin(t, o)
		dir, err := statedir.Open(o.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := trustOf(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.roll.Roots().Certs(); len(got) != roots {
			t.Errorf("%s: the new host trusts %d roots, want %d", what, len(got), roots)
		}
		kept, err := dir.Roots()
		if err != nil || !slices.EqualFunc(kept, l.roll.Roots().Certs(), bytes.Equal) {
			t.Errorf("%s: other roots on disk, %v", what, err)
		}
		verify(t, dir)
	}
	for g, tok := range old {
		joins("before, "+g.res.Name, tok, 1)
	}
	l.step(t, rootca.Rotate, 1, b)
	for g, tok := range old {
		joins("rotating, "+g.res.Name, tok, 2)
	}
	l.step(t, rootca.Switch, 2, b)
	for g, tok := range old {
		joins("switched, old token, "+g.res.Name, tok, 2)
		joins("switched, new token, "+g.res.Name, g.token(t), 2)
	}
	for _, g := range []*lab{l, b} { // gateways certify themselves anew meanwhile
		if _, err := Renew(t.Context(), RenewOptions{Dir: g.dir, Roll: g.roll}); err != nil {
			t.Fatal(err)
		}
		joins("certified anew, old token, "+g.res.Name, old[g], 2)
	}
	// A gateway restarts.
	again := &lab{state: b.state}
	again.open(t)
	tok := *old[b]
	tok.Addrs = []string{again.addr}
	joins("restarted, old token", &tok, 2)

	l.step(t, rootca.Retire, 3, b)
	for g, tok := range old {
		_, err := join(t, options(t, tok, "late-1"))
		wantCode(t, err, CodeFakeGateway)
		joins("retired, new token, "+g.res.Name, g.token(t), 1)
		if chain, err := g.dir.Chain(); err != nil || len(chain) != 2 {
			t.Errorf("a chain of %d certificates, %v", len(chain), err)
		}
	}
	// Who was away all the time has certificates under the old root only.
	for _, g := range []*lab{l, b} {
		wantAnswer(t, "renewal", n.renews(t, g), CodeOK)
	}
}

// TestAbsentMemberAsksAfterARotation: it trusts the old root only, and meets
// gateways under the new one. Their answers tell it of that.
func TestAbsentMemberAsksAfterARotation(t *testing.T) {
	l := newLab(t)
	var dirs []*statedir.Dir
	for _, name := range []string{"gpu-1", "gpu-2"} {
		o := options(t, l.token(t), name)
		mustJoin(t, o)
		dir, err := statedir.Open(o.StateDir)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	l.step(t, rootca.Rotate, 1)
	l.step(t, rootca.Switch, 2)
	renew := func(dir *statedir.Dir) error {
		_, err := Renew(t.Context(), RenewOptions{Dir: dir, Addrs: []string{l.addr}})
		return err
	}
	if err := renew(dirs[0]); err != nil {
		t.Error(err)
	}
	l.step(t, rootca.Retire, 3)
	if err := renew(dirs[0]); err != nil {
		t.Error(err)
	}
	if roots, err := dirs[0].Roots(); err != nil || len(roots) != 1 || !bytes.Equal(roots[0], l.roll.Roots().Certs()[0]) {
		t.Errorf("%d roots on disk, %v", len(roots), err)
	}
	// Who was away all the time cannot believe the gateway; gossip helps.
	wantCode(t, renew(dirs[1]), CodeFakeGateway)
	var heard int
	at, err := dirs[1].Notices()
	if err != nil || len(at) != 0 {
		t.Errorf("%d notices, %v", len(at), err)
	}
	tr, err := trustOf(dirs[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range l.roll.Notices() {
		if _, _, err := tr.roll.Add(n, time.Now()); err != nil {
			t.Error(err)
		}
	}
	_, err = Renew(t.Context(), RenewOptions{Dir: dirs[1], Addrs: []string{l.addr}, Roll: tr.roll, Hear: func([]byte) { heard++ }})
	if err != nil || heard != 1 {
		t.Errorf("%v, heard %d", err, heard)
	}
}

func TestPresented(t *testing.T) {
	l := newLab(t)
	chain, err := l.dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := l.dir.Roots()
	if err != nil {
		t.Fatal(err)
	}
	renewer, err := l.dir.Renewer()
	if err != nil {
		t.Fatal(err)
	}
	foreign := newLab(t)
	alien, err := foreign.dir.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	alienRoots, err := foreign.dir.Roots()
	if err != nil {
		t.Fatal(err)
	}
	got := presented(chain[0], [][]byte{renewer, alien, {1}, chain[1], chain[1]}, append(alienRoots, roots...))
	if want := [][]byte{chain[0], chain[1], roots[0]}; !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d certificates", len(got))
	}
}

// TestNewHostLearnsNotices: who was revoked before it came.
func TestNewHostLearnsNotices(t *testing.T) {
	l := newLab(t)
	n := joined(t, l, "gpu-1")
	l.revoke(t, n.id)
	o := options(t, l.token(t), "gpu-2")
	mustJoin(t, o)
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := trustOf(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tr.roll.Revoked(n.id); !ok {
		t.Error("the new host does not know")
	}
}

// TestRevokedIssuer: what a stolen issuing key can still do is nothing.
func TestRevokedIssuer(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	n, m := joined(t, b, "gpu-1"), joined(t, l, "gpu-2")
	wantAnswer(t, "renewal by the other", m.renews(t, b), CodeOK)
	issuer, err := b.dir.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	var notice []byte
	if err := l.dir.Update(func() (err error) { notice, err = rootca.RevokeIssuer(l.dir, issuer, "stolen", l.now()); return err }); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*lab{l, b} {
		if _, _, err := g.roll.Add(notice, g.now()); err != nil {
			t.Fatal(err)
		}
	}
	wantAnswer(t, "its node", n.renews(t, l), CodeRevokedNode)
	wantAnswer(t, "a node it renewed", m.renews(t, l), CodeRevokedNode)
	k := joined(t, l, "gpu-3")
	wantAnswer(t, "at the revoked gateway", k.renews(t, b), CodeNoIssuer)
	w := newWire(t, b)
	w.q.Name = "gpu-4"
	ans, _ := b.srv.answer(t.Context(), w.frame(t, here), here, nowhere)
	wantAnswer(t, "join at the revoked gateway", ans, CodeNoIssuer)
	// Members do not believe it any more.
	dir, keys := b.dir, []discovery.NodeID{b.res.ID}
	chain, err := dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	if id, err := (trust{"lab", l.roll}).believe(chain, time.Now()); err == nil {
		t.Errorf("believed %v as %v", keys, id)
	}
}
