package enroll

import (
	"bytes"
	"crypto/ed25519"
	"reflect"
	"slices"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

const day = 24 * time.Hour

// node is a node as it speaks on the wire, without a state directory.
type node struct {
	keys
	id    discovery.NodeID
	name  string
	chain [][]byte
}

// joined makes a server that joined through l, at l's time.
func joined(t testing.TB, l *lab, name string, change ...func(*TokenOptions)) *node {
	t.Helper()
	w := newWire(t, l, append(change, func(o *TokenOptions) { o.now = l.now })...)
	w.q.Name, w.q.Time = name, l.now().UTC()
	ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere)
	if ans.Code != CodeOK {
		t.Fatalf("%s: %s %s", name, ans.Code, ans.Text)
	}
	return &node{keys: w.k, id: w.k.id(), name: name, chain: ans.Chain}
}

// asks is a question by the node, after change.
func (n *node) asks(t testing.TB, l *lab, kind string, change ...func(*question)) answer {
	t.Helper()
	q := question{Version: protoVersion, Kind: kind, Time: l.now().UTC(), Chain: n.chain}
	var err error
	if q.Identity, q.WireGuard, _, err = n.public(); err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&q)
	}
	w := wire{lab: l, tok: l.token(t), k: n.keys, q: q}
	ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere)
	return ans
}

// renews asks for a renewal and takes it.
func (n *node) renews(t testing.TB, l *lab) answer {
	t.Helper()
	ans := n.asks(t, l, kindRenew)
	if ans.Code == CodeOK {
		n.chain = ans.Chain
	}
	return ans
}

// at sets the clock of gateways, which certify themselves then.
func at(t testing.TB, d time.Duration, labs ...*lab) {
	t.Helper()
	for _, l := range labs {
		l.skew.Store(int64(d))
		if _, err := Renew(t.Context(), RenewOptions{Dir: l.dir, Roll: l.roll, now: l.now}); err != nil {
			t.Fatal(err)
		}
	}
}

func wantAnswer(t testing.TB, what string, ans answer, want Code) {
	t.Helper()
	if ans.Code != want {
		t.Errorf("%s: %s (%s), want %s", what, ans.Code, ans.Text, want)
	}
}

func (n *node) identity(t testing.TB, l *lab) discovery.Identity {
	t.Helper()
	id, pub, err := l.roll.Verify(n.chain, l.now())
	if err != nil || !pub.Equal(n.keys.identity.Public()) {
		t.Fatalf("%+v, %v", id, err)
	}
	return id
}

// TestAnyGatewayRenews is the story of a node whose home is lost.
func TestAnyGatewayRenews(t *testing.T) {
	l := newLab(t)
	b, c := l.second(t, "gw-b"), l.second(t, "gw-c")
	n := joined(t, l, "gpu-1")
	first := n.identity(t, l)
	before, err := b.dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	end := first.NotAfter
	for i, other := range []*lab{b, c, b} { // home is gone
		at(t, time.Duration(i+1)*20*day, b, c)
		wantAnswer(t, "renewal", n.renews(t, other), CodeOK)
		id := n.identity(t, other)
		if !id.NotAfter.After(end) {
			t.Errorf("%s is not after %s", id.NotAfter, end)
		}
		end = id.NotAfter
		id.NotAfter = first.NotAfter
		if !reflect.DeepEqual(id, first) {
			t.Errorf("renewed as %+v, was %+v", id, first)
		}
		if len(n.chain) != 4 {
			t.Errorf("a chain of %d certificates", len(n.chain))
		}
	}
	if got := b.chains(); len(got) != 2 || !slices.EqualFunc(got[1], n.chain, bytes.Equal) {
		t.Errorf("%d introduced", len(got))
	}
	after, err := b.dir.Allocations()
	if err != nil || len(after.Renewed) != 0 || len(after.Addrs) != len(before.Addrs) {
		t.Errorf("the ledger changed: %+v, %v", after, err)
	}
	// Home comes back, and makes an original again.
	at(t, 80*day, l)
	wantAnswer(t, "at home", n.renews(t, l), CodeOK)
	if len(n.chain) != 2 {
		t.Errorf("a chain of %d certificates", len(n.chain))
	}
	if id := n.identity(t, l); id.Addr != first.Addr || id.NotAfter.Before(l.now().Add(29*day)) {
		t.Errorf("%+v", id)
	}
}

func TestRenewThroughAnother(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	o := options(t, l.token(t), "gpu-1")
	res := mustJoin(t, o)
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	at(t, 20*day, b)
	chain, err := Renew(t.Context(), RenewOptions{Dir: dir, Addrs: []string{"127.0.0.1:1", b.addr}, now: b.now})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := b.roll.Verify(chain, b.now())
	if err != nil || id.Addr != res.Addr || id.ID != res.ID || !id.NotAfter.After(res.NotAfter) {
		t.Errorf("%+v, %v", id, err)
	}
	if kept, err := dir.Chain(); err != nil || !slices.EqualFunc(kept, chain, bytes.Equal) {
		t.Errorf("on disk: %d, %v", len(kept), err)
	}
}

func TestNodeLife(t *testing.T) {
	l := &lab{state: newLab(t).state}
	l.open(t, func(o *Options) { o.NodeLife = 2 * time.Hour })
	n := joined(t, l, "gpu-1")
	from, to, err := pki.Lifetime(n.chain[0])
	if err != nil || to.Sub(from) != 2*time.Hour {
		t.Errorf("%s, %v", to.Sub(from), err)
	}
	a, err := l.dir.Allocations()
	if e := find(a, n.id); err != nil || e == nil || !e.NotAfter.Equal(to) {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestRecoveries: the same key, so often, not for ever.
func TestRecoveries(t *testing.T) {
	for _, home := range []bool{true, false} {
		t.Run(map[bool]string{true: "home", false: "another"}[home], func(t *testing.T) {
			l := newLab(t)
			asked := l
			if !home {
				asked = l.second(t, "gw-b")
			}
			n := joined(t, l, "gpu-1")
			addr := n.identity(t, l).Addr
			now := time.Duration(0)
			for i := range maxRecoveries {
				now += pki.NodeLife + 10*day
				at(t, now, asked)
				old := n.chain
				wantAnswer(t, "recovery", n.renews(t, asked), CodeOK)
				if id := n.identity(t, asked); id.Addr != addr {
					t.Errorf("recovered as %+v", id)
				}
				// The answer was lost: it asks again with what it has, and that
				// is not another recovery.
				n.chain = old
				wantAnswer(t, "the same again", n.renews(t, asked), CodeOK)
				if got := recoveries(t, asked, n.id); got != i+1 {
					t.Errorf("%d recoveries are counted, want %d", got, i+1)
				}
				now += 10 * day
				at(t, now, asked)
				wantAnswer(t, "renewal in time", n.renews(t, asked), CodeOK)
			}
			now += pki.NodeLife + time.Hour
			at(t, now, asked)
			wantAnswer(t, "once too often", n.renews(t, asked), CodeTooOften)
		})
	}
}

func recoveries(t *testing.T, l *lab, id discovery.NodeID) int {
	t.Helper()
	a, err := l.dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	if e := find(a, id); e != nil {
		return e.Recovered
	}
	for _, r := range a.Renewed {
		if r.Node == id {
			return r.Count
		}
	}
	return 0
}

func TestRecoveryEnds(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	n := joined(t, l, "gpu-1")
	end := n.identity(t, l).NotAfter
	for _, tt := range []struct {
		name string
		at   *lab
		over time.Duration
		want Code
	}{
		{"at home, after months", l, maxOver - time.Hour, CodeOK},
		{"at home, too late", l, maxOver + time.Hour, CodeExpired},
		// Another gateway forgets revocations earlier.
		{"elsewhere, after weeks", b, maxAge - pki.NodeLife - time.Hour, CodeOK},
		{"elsewhere, too late", b, maxAge - pki.NodeLife + time.Hour, CodeExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ledger, err := tt.at.dir.Allocations()
			if err != nil {
				t.Fatal(err)
			}
			at(t, time.Until(end)+tt.over, tt.at)
			before := n.chain
			wantAnswer(t, "recovery", n.asks(t, tt.at, kindRenew), tt.want)
			n.chain = before
			if err := tt.at.dir.SetAllocations(ledger); err != nil { // as if it had not been
				t.Fatal(err)
			}
		})
	}
	if maxAge >= pki.NoticeLife {
		t.Error("a certificate can be renewed when its revocation is forgotten")
	}
}

func TestRenewalOfOutcasts(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	n, m, k := joined(t, l, "gpu-1"), joined(t, l, "gpu-2"), joined(t, l, "gpu-3")
	l.revoke(t, n.id, b)
	l.say(t, quarantine(m.id, 1), b)
	for _, at := range []*lab{l, b} {
		wantAnswer(t, "revoked", n.renews(t, at), CodeRevokedNode)
		wantAnswer(t, "quarantined", m.renews(t, at), CodeQuarantined)
		wantAnswer(t, "good", k.renews(t, at), CodeOK)
	}
	l.say(t, pki.Notice{Kind: pki.NoticeReleased, Node: m.id, Reason: "operator", Epoch: 2}, b)
	wantAnswer(t, "released", m.renews(t, b), CodeOK)
	// Its home freed its address, without a notice.
	if err := Release(l.dir, k.id, l.now(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, "freed", k.renews(t, l), CodeUnknownNode)
}

// TestRecoveryAfterTheNamePassed: the node was over so long that another host
// has its name by now, which another gateway hears from the mesh.
func TestRecoveryAfterTheNamePassed(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	n := joined(t, l, "gpu-1")
	at(t, pki.NodeLife+nameRest+day, b)
	b.knows(discovery.Identity{ID: "other", Name: "gpu-1", Role: discovery.RoleServer, NotAfter: b.now().Add(20 * day)}, true)
	wantAnswer(t, "recovery", n.renews(t, b), CodeNameTaken)
}

// TestChainGames has what a node might show for its certificates.
func TestChainGames(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	foreign := newLab(t)
	n, other, alien := joined(t, l, "gpu-1"), joined(t, l, "gpu-2"), joined(t, foreign, "gpu-1")
	through := joined(t, l, "gpu-3")
	wantAnswer(t, "renewal", through.renews(t, b), CodeOK)
	gwChain, err := l.dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	renewer, err := b.dir.Renewer()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := b.dir.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	roots, _ := l.dir.Roots()
	bent := bytes.Clone(n.chain[0])
	bent[len(bent)-5] ^= 1
	for _, tt := range []struct {
		name  string
		chain [][]byte
	}{
		{"none", nil},
		{"another node's", other.chain},
		{"another mesh's", alien.chain},
		{"a gateway's", gwChain},
		{"a leaf alone", n.chain[:1]},
		{"under another issuer", [][]byte{n.chain[0], issuer}},
		{"under a renewer, without an original", [][]byte{n.chain[0], renewer}},
		{"under a renewer, with itself as original", [][]byte{n.chain[0], renewer, n.chain[0], n.chain[1]}},
		{"a renewal with another's original", [][]byte{through.chain[0], through.chain[1], other.chain[0], other.chain[1]}},
		{"another's renewal with its own original", [][]byte{through.chain[0], through.chain[1], n.chain[0], n.chain[1]}},
		{"a bent leaf", [][]byte{bent, n.chain[1]}},
		{"upside down", [][]byte{n.chain[1], n.chain[0]}},
		{"roots only", [][]byte{roots[0], roots[0]}},
		{"rubbish", [][]byte{{1}, {2}}},
		{"empty ones", [][]byte{{}, {}}},
	} {
		for where, g := range map[string]*lab{"home": l, "another": b} {
			for _, kind := range []string{kindRenew, kindLeave, kindCertify} {
				n := *n
				n.chain = tt.chain
				var change []func(*question)
				if kind == kindCertify {
					n.issuer = ed25519.NewKeyFromSeed(here)
					change = append(change, func(q *question) { q.Issuer = n.issuer.Public().(ed25519.PublicKey) })
				}
				if ans := n.asks(t, g, kind, change...); ans.Code != CodeUnknownNode {
					t.Errorf("%s, %s at %s: %s %s", tt.name, kind, where, ans.Code, ans.Text)
				}
			}
			if ans := func() answer { n := *n; n.chain = tt.chain; return n.asks(t, g, kindHello) }(); ans.Code != CodeOK || ans.Standing != StandingUnknown {
				t.Errorf("%s, hello at %s: %s %s", tt.name, where, ans.Code, ans.Standing)
			}
		}
	}
	t.Run("another WireGuard key elsewhere", func(t *testing.T) {
		ans := n.asks(t, b, kindRenew, func(q *question) { q.WireGuard = elsewhere })
		wantAnswer(t, "renewal", ans, CodeUnknownNode)
	})
	t.Run("another WireGuard key at home", func(t *testing.T) {
		ans := n.asks(t, l, kindRenew, func(q *question) { q.WireGuard = elsewhere })
		wantAnswer(t, "renewal", ans, CodeOK)
	})
	t.Run("a server wants an issuing key certified", func(t *testing.T) {
		n := *n
		n.issuer = ed25519.NewKeyFromSeed(here)
		ans := n.asks(t, l, kindCertify, func(q *question) { q.Issuer = n.issuer.Public().(ed25519.PublicKey) })
		wantAnswer(t, "certify", ans, CodeUnknownNode)
	})
	if left := l.left; len(left) != 0 {
		t.Errorf("told of %v", left)
	}
}

// TestCertifyIsForTheOwnKey: a gateway cannot have another key certified, nor
// use another's chain.
func TestCertifyIsForTheOwnKey(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	k, err := readKeys(b.dir, discovery.RoleGateway)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := b.dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	g := &node{keys: k, id: k.id(), chain: chain}
	with := func(key ed25519.PrivateKey) answer {
		g := *g
		g.issuer = key
		return g.asks(t, l, kindCertify, func(q *question) { q.Issuer = key.Public().(ed25519.PublicKey) })
	}
	wantAnswer(t, "another key", with(ed25519.NewKeyFromSeed(here)), CodeUnknownNode)
	wantAnswer(t, "its own key", with(k.issuer), CodeOK)
	wantAnswer(t, "as a node", g.asks(t, l, kindRenew), CodeUnknownNode)
	wantAnswer(t, "without the root", g.asksCertify(t, b), CodeNoRoot)
	if err := l.dir.Update(func() error {
		a, err := l.dir.Allocations()
		a.Blocks = slices.DeleteFunc(a.Blocks, func(x statedir.Grant) bool { return x.Node == g.id })
		if err == nil {
			err = l.dir.SetAllocations(a)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, "without a grant", with(k.issuer), CodeUnknownNode)
}

func (n *node) asksCertify(t testing.TB, l *lab) answer {
	return n.asks(t, l, kindCertify, func(q *question) { q.Issuer = n.issuer.Public().(ed25519.PublicKey) })
}
