package enroll

import (
	"net/netip"
	"slices"
	"testing"

	"drawbridge/agent/history"
	"drawbridge/discovery"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestTokenTerms(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token func(*TokenOptions)
		as    string
		want  Code
	}{
		{"name fits", func(o *TokenOptions) { o.Names = []string{"gpu-*"} }, "gpu-1", CodeOK},
		{"one of several names", func(o *TokenOptions) { o.Names = []string{"web-[0-9]", "gpu-?"} }, "gpu-1", CodeOK},
		{"exact name", func(o *TokenOptions) { o.Names = []string{"gpu-1"} }, "gpu-1", CodeOK},
		{"other name", func(o *TokenOptions) { o.Names = []string{"gpu-*"} }, "web-1", CodeOtherName},
		{"the whole label must fit", func(o *TokenOptions) { o.Names = []string{"gpu"} }, "gpu-1", CodeOtherName},
		{"source fits", func(o *TokenOptions) { o.Sources = prefixes("192.0.2.0/24", "127.0.0.0/8") }, "gpu-1", CodeOK},
		{"other source", func(o *TokenOptions) { o.Sources = prefixes("192.0.2.0/24", "2001:db8::/32") }, "gpu-1", CodeOtherSource},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			tok := l.token(t, tt.token)
			o := options(t, tok, tt.as)
			_, err := join(t, o)
			if tt.want == CodeOK {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, tt.want)
			wantNothing(t, o.StateDir)
			if got, err := l.dir.Token(tok.ID); err != nil || len(got.Redeemed) != 0 {
				t.Errorf("a use was spent: %+v, %v", got, err)
			}
		})
	}
}

func TestSourceFits(t *testing.T) {
	for _, tt := range []struct {
		from    string
		sources []netip.Prefix
		want    bool
	}{
		{"198.51.100.7", nil, true},
		{"198.51.100.7", prefixes("198.51.100.0/24"), true},
		{"::ffff:198.51.100.7", prefixes("198.51.100.0/24"), true},
		{"198.51.101.7", prefixes("198.51.100.0/24"), false},
		{"2001:db8::1", prefixes("198.51.100.0/24"), false},
		{"2001:db8::1", prefixes("2001:db8::/64"), true},
		{"fe80::1%eth0", prefixes("fe80::/64"), true},
	} {
		if got := sourceFits(tt.sources, netip.MustParseAddr(tt.from)); got != tt.want {
			t.Errorf("%s in %v: %v", tt.from, tt.sources, got)
		}
	}
}

func TestCreateTokenRefusesLimits(t *testing.T) {
	l := newLab(t)
	for name, change := range map[string]func(*TokenOptions){
		"bad glob":     func(o *TokenOptions) { o.Names = []string{"gpu-["} },
		"empty glob":   func(o *TokenOptions) { o.Names = []string{""} },
		"many globs":   func(o *TokenOptions) { o.Names = slices.Repeat([]string{"a"}, 9) },
		"no source":    func(o *TokenOptions) { o.Sources = []netip.Prefix{{}} },
		"host bits":    func(o *TokenOptions) { o.Sources = prefixes("198.51.100.1/24") },
		"mapped":       func(o *TokenOptions) { o.Sources = prefixes("::ffff:198.51.100.0/120") },
		"many sources": func(o *TokenOptions) { o.Sources = slices.Repeat(prefixes("198.51.100.0/24"), 17) },
	} {
		o := TokenOptions{Site: "idc", Addrs: []string{"a:1"}}
		change(&o)
		if _, err := CreateToken(l.state, o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if list, err := l.dir.Tokens(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestListTokensShowsTerms(t *testing.T) {
	l := newLab(t)
	l.token(t, func(o *TokenOptions) {
		o.Names, o.Sources = []string{"gpu-*"}, prefixes("192.0.2.0/24")
		o.Ephemeral, o.Approval, o.Replace = true, true, true
	})
	list, err := ListTokens(l.state)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	i := list[0]
	if !slices.Equal(i.Names, []string{"gpu-*"}) || !slices.Equal(i.Sources, prefixes("192.0.2.0/24")) || !i.Ephemeral || !i.Approval || !i.Replace {
		t.Errorf("got %+v", i)
	}
	events, err := history.Read(l.state, history.Filter{Kinds: []string{eventTokenCreated}})
	if err != nil || len(events) != 1 || events[0].Subject != i.ID || events[0].Actor == "" || events[0].Detail["names"] != "gpu-*" ||
		events[0].Detail["replace"] != "yes" || events[0].Detail["sources"] != "192.0.2.0/24" {
		t.Errorf("history: %+v, %v", events, err)
	}
}

// TestOneKeyOneName: a second token does not give a certified key another name.
func TestOneKeyOneName(t *testing.T) {
	l := newLab(t)
	w := newWire(t, l)
	if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeOK {
		t.Fatal(ans)
	}
	w.tok = l.token(t)
	w.q.Token, w.q.Name = w.tok.ID, "gpu-2"
	if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeNameTaken {
		t.Errorf("another name: %s", ans.Code)
	}
	w.tok = l.token(t, func(o *TokenOptions) { o.Site = "idc-2" })
	w.q.Token, w.q.Name = w.tok.ID, "gpu-1"
	if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeNameTaken {
		t.Errorf("another site: %s", ans.Code)
	}
}

// TestOutcastsDoNotJoin: a key that was revoked or set apart does not come back
// by a token.
func TestOutcastsDoNotJoin(t *testing.T) {
	l := newLab(t)
	w := newWire(t, l)
	id := w.k.id()
	l.say(t, quarantine(id, 1))
	if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeQuarantined {
		t.Errorf("quarantined: %s", ans.Code)
	}
	l.revoke(t, id)
	if ans, _ := l.srv.answer(t.Context(), w.frame(t, here), here, nowhere); ans.Code != CodeRevokedNode {
		t.Errorf("revoked: %s", ans.Code)
	}
	if tok, err := l.dir.Token(w.tok.ID); err != nil || len(tok.Redeemed) != 0 {
		t.Errorf("%+v, %v", tok, err)
	}
}

func TestEveryRefusalHasANextStep(t *testing.T) {
	for _, c := range []Code{
		CodeMalformed, CodeVersion, CodeUnknownToken, CodeRevoked, CodeExpired, CodeUsedUp, CodeOtherSite, CodeOtherRole, CodeOtherName,
		CodeOtherSource, CodeNameTaken, CodePending, CodeRefused, CodeManyPending, CodeNoIssuer, CodeNoRoot, CodeFull, CodeUnknownNode,
		CodeRevokedNode, CodeQuarantined, CodeTooOften, CodeNoAWS, CodeBadAWS, CodeAWSAway, CodeInstanceTaken, CodeBusy, CodeInternal,
	} {
		if nextStep(c) == "" {
			t.Errorf("%s has none", c)
		}
	}
	if len(nextSteps) != 27 {
		t.Errorf("%d codes have one; the list above is not whole", len(nextSteps))
	}
}

func gateways(o *TokenOptions) { o.Site, o.Role = "aws", discovery.RoleGateway }
