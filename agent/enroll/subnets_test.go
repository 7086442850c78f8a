package enroll

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/statedir"
)

// TestSubnetsAreAskedForAndAllowed: a server gets into its certificate what it
// asks for and what its token, or a person later, allows. Other gateways carry
// that on and change nothing.
func TestSubnetsAreAskedForAndAllowed(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	tok := l.token(t, func(o *TokenOptions) { o.Subnets = prefixes("192.168.20.0/22", "172.20.0.0/16") })
	o := options(t, tok, "nas")
	mustJoin(t, o)
	dir := mustOpen(t, o.StateDir)
	if got := verify(t, dir).Subnets; got != nil {
		t.Errorf("joined with %v, which nobody asked for", got)
	}
	renew := func(what, addr string, asked, want []netip.Prefix) {
		t.Helper()
		l.skew.Add(int64(time.Second)) // another second, another certificate
		b.skew.Store(l.skew.Load())
		o := RenewOptions{Dir: dir, Addrs: []string{addr}, Advertise: asked, now: l.now}
		if _, err := Renew(t.Context(), o); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		chain, err := dir.Chain()
		if err != nil {
			t.Fatal(err)
		}
		if got := verifyChain(t, dir, chain).Subnets; !slices.Equal(got, want) {
			t.Errorf("%s: certified %v, want %v", what, got, want)
		}
	}
	allow := func(texts ...string) {
		t.Helper()
		if _, err := AllowSubnets(l.state, "nas", prefixes(texts...), "test"); err != nil {
			t.Fatal(err)
		}
	}
	one, two := prefixes("192.168.20.0/24"), prefixes("192.168.20.0/24", "192.168.30.0/24")
	renew("elsewhere, asked for", b.addr, one, nil)
	renew("at home, within a larger one", l.addr, one, one)
	renew("elsewhere, asked for more", b.addr, two, one)
	renew("elsewhere, asked for less", b.addr, nil, one)
	renew("at home, one of the two is not allowed", l.addr, two, one)
	renew("at home, larger than allowed", l.addr, prefixes("192.168.0.0/16"), nil)
	allow("192.168.30.0/24", "192.168.20.0/24")
	renew("allowed later", l.addr, two, two)
	allow()
	renew("elsewhere, allowed no more", b.addr, two, two)
	renew("at home, allowed no more", l.addr, two, nil)

	var said []string
	events, err := history.Read(l.state, history.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == eventSubnets {
			said = append(said, e.Actor+": "+e.To)
		}
	}
	if want := []string{"test: 192.168.20.0/24 192.168.30.0/24", "test: "}; !slices.Equal(said, want) {
		t.Errorf("the history says %q, want %q", said, want)
	}
}

func TestAllowSubnetsRefuses(t *testing.T) {
	l := newLab(t)
	mustJoin(t, options(t, l.token(t), "nas"))
	for what, list := range map[string][]netip.Prefix{
		"in the mesh": prefixes("10.86.9.0/24"), "public": prefixes("203.0.113.0/24"), "everything": prefixes("0.0.0.0/0"),
	} {
		if _, err := AllowSubnets(l.state, "nas", list, "test"); err == nil {
			t.Errorf("%s: allowed", what)
		}
		if _, err := CreateToken(l.state, TokenOptions{Site: "idc", Addrs: []string{l.addr}, Subnets: list}); err == nil {
			t.Errorf("%s: in a token", what)
		}
	}
	if _, err := AllowSubnets(l.state, "nobody", prefixes("192.168.20.0/24"), "test"); !errors.Is(err, ErrNotHere) {
		t.Errorf("a node of another gateway: %v", err)
	}
	if _, err := AllowSubnets(l.state, l.res.Name, prefixes("192.168.20.0/24"), "test"); err == nil {
		t.Error("allowed a gateway")
	}
	if _, err := CreateToken(l.state, TokenOptions{Site: "idc", Role: "gateway", Addrs: []string{l.addr}, Subnets: prefixes("192.168.20.0/24")}); err == nil {
		t.Error("in a token for gateways")
	}
}

func TestPendingShowsSubnets(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, approval, func(o *TokenOptions) { o.Subnets = prefixes("192.168.20.0/24") })
	o := options(t, tok, "nas")
	o.Patience = time.Millisecond
	_, err := join(t, o)
	wantCode(t, err, CodePending)
	list, err := ListPending(l.state)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Subnets, prefixes("192.168.20.0/24")) {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := Approve(l.state, list[0].Fingerprint, "test"); err != nil {
		t.Fatal(err)
	}
	mustJoin(t, o)
	ledger, err := l.dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(ledger.Addrs, func(e statedir.Allocation) bool { return e.Name == "nas" })
	if i < 0 || !slices.Equal(ledger.Addrs[i].Subnets, prefixes("192.168.20.0/24")) {
		t.Errorf("the ledger has %+v", ledger.Addrs)
	}
}

func TestAWSRuleAllowsSubnets(t *testing.T) {
	l, _ := awsLab(t, AWSRule{Name: "gpu", Account: "123456789012", Role: "gpu", Site: "aws", Subnets: prefixes("172.20.0.0/16")})
	o := awsOptions(t, l, "gpu-1", on("i-0123456789abcdef0"))
	mustJoin(t, o)
	dir := mustOpen(t, o.StateDir)
	if _, err := Renew(t.Context(), RenewOptions{Dir: dir, Addrs: []string{l.addr}, Advertise: prefixes("172.20.5.0/24", "192.168.20.0/24"), now: l.now}); err != nil {
		t.Fatal(err)
	}
	if got := verify(t, dir).Subnets; !slices.Equal(got, prefixes("172.20.5.0/24")) {
		t.Errorf("certified %v", got)
	}
}

// TestQuestionsWithSubnets: only a renewal asks for networks, and only for ones
// that could be granted.
func TestQuestionsWithSubnets(t *testing.T) {
	for _, tt := range []struct {
		kind string
		list []netip.Prefix
		good bool
	}{
		{kindRenew, prefixes("192.168.20.0/24"), true},
		{kindJoin, prefixes("192.168.20.0/24"), false},
		{kindHello, prefixes("192.168.20.0/24"), false},
		{kindRenew, prefixes("192.168.21.0/24", "192.168.20.0/24"), false},
		{kindRenew, prefixes("192.168.20.1/24"), false},
		{kindRenew, []netip.Prefix{{}}, false},
		{kindRenew, slices.Repeat(prefixes("192.168.20.0/24"), 17), false},
	} {
		q, _ := fixedQuestion(tt.kind)
		q.Subnets = tt.list
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		var again question
		err = unmarshal(b, &again)
		if err == nil {
			err = again.check()
		}
		if (err == nil) != tt.good {
			t.Errorf("%s with %v: %v", tt.kind, tt.list, err)
		}
	}
}

// TestStrangeGatewayInventsSubnets: a node does not take a certificate with
// networks that it neither had nor asked for.
func TestStrangeGatewayInventsSubnets(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, func(o *TokenOptions) { o.Subnets = prefixes("192.168.20.0/24") })
	o := options(t, tok, "nas")
	mustJoin(t, o)
	dir := mustOpen(t, o.StateDir)
	m, err := RenewOptions{Dir: dir, now: l.now}.member()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := Renew(t.Context(), RenewOptions{Dir: dir, Addrs: []string{l.addr}, Advertise: prefixes("192.168.20.0/24"), now: l.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, bad := m.take(answer{Chain: chain}, nil); bad == nil || bad.Code != CodeBadAnswer {
		t.Errorf("took %v", bad)
	}
	if _, bad := m.take(answer{Chain: chain}, prefixes("192.168.20.0/24")); bad != nil {
		t.Error(bad)
	}
}
