package rootca

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequestComesBack(t *testing.T) {
	req := request(t, newRootDir(t), 1)
	text := req.Encode()
	for _, s := range []string{text, "\n  " + text + "\n\n", strings.ReplaceAll(text, "\n", "\r\n")} {
		got, err := ParseRequest(s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(req, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	print := req.Fingerprint()
	if !regexp.MustCompile(`^([0-9a-f]{4} ){7}[0-9a-f]{4}$`).MatchString(print) {
		t.Errorf("fingerprint %q", print)
	}
	for name, change := range map[string]func(*Request){
		"mesh":   func(r *Request) { r.Mesh = "lab2" },
		"name":   func(r *Request) { r.Name = "gw-2" },
		"node":   func(r *Request) { r.Node = nodeNo(2) },
		"issuer": func(r *Request) { r.Issuer = public(2) },
		"pin":    func(r *Request) { r.Pin[0]++ },
	} {
		other := req
		change(&other)
		if other.Fingerprint() == print {
			t.Errorf("another %s, the same fingerprint", name)
		}
	}
}

func TestGrantComesBack(t *testing.T) {
	dir := newRootDir(t)
	g := mustSign(t, dir, request(t, dir, 1), testNow)
	got, err := ParseGrant(g.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTextRefused(t *testing.T) {
	dir, other := newRootDir(t), newRootDir(t)
	req := request(t, dir, 1)
	g, g2, elsewhere := mustSign(t, dir, req, testNow), mustSign(t, dir, request(t, dir, 2), testNow), mustSign(t, other, request(t, other, 1), testNow)
	text := req.Encode()
	form := requestForm{Version: 1, Mesh: "lab", Name: "gw-1", Node: nodeNo(1), Issuer: public(1), Pin: req.Pin[:]}
	with := func(change func(*requestForm)) string { f := form; change(&f); return wrap(armourRequest, f) }
	for name, s := range map[string]string{
		"nothing":         "",
		"words":           "please",
		"words before":    "please:\n" + text,
		"words after":     text + "thanks",
		"twice":           text + text,
		"a grant":         g.Encode(),
		"a header":        strings.Replace(text, "-----\n", "-----\nA: b\n\n", 1),
		"huge":            strings.Repeat(" x", maxText),
		"other content":   wrap(armourRequest, []int{1}),
		"unknown field":   wrap(armourRequest, map[string]int{"version": 1, "colour": 2}),
		"newer version":   with(func(f *requestForm) { f.Version = 2 }),
		"bad mesh":        with(func(f *requestForm) { f.Mesh = "a b" }),
		"bad name":        with(func(f *requestForm) { f.Name = "" }),
		"bad node":        with(func(f *requestForm) { f.Node = "../../etc" }),
		"upper-case node": with(func(f *requestForm) { f.Node = "0000000000000000000000000000000A" }),
		"short key":       with(func(f *requestForm) { f.Issuer = f.Issuer[:31] }),
		"short pin":       with(func(f *requestForm) { f.Pin = f.Pin[:31] }),
	} {
		if got, err := ParseRequest(s); !errors.Is(err, ErrText) || got.Name != "" {
			t.Errorf("request, %s: %v", name, err)
		}
	}
	for n := range len(text) - 1 {
		if _, err := ParseRequest(text[:n]); !errors.Is(err, ErrText) {
			t.Fatalf("request cut at %d: %v", n, err)
		}
	}
	grant := func(change func(*Grant)) string { h := g; change(&h); return h.Encode() }
	for name, s := range map[string]string{
		"a request":          text,
		"bad name":           grant(func(h *Grant) { h.Name = "a b" }),
		"another name":       grant(func(h *Grant) { h.Name = "gw-2" }),
		"bad node":           grant(func(h *Grant) { h.Node = "x" }),
		"another block":      grant(func(h *Grant) { h.Block = g2.Block }),
		"no roots":           grant(func(h *Grant) { h.Roots = nil }),
		"five roots":         grant(func(h *Grant) { h.Roots = append(h.Roots, g.Roots[0], g.Roots[0], g.Roots[0], g.Roots[0]) }),
		"an issuer as root":  grant(func(h *Grant) { h.Roots = [][]byte{g.Issuer} }),
		"another root":       grant(func(h *Grant) { h.Roots = elsewhere.Roots }),
		"a root beside":      grant(func(h *Grant) { h.Issuer = elsewhere.Issuer }),
		"another's issuer":   grant(func(h *Grant) { h.Issuer = g2.Issuer }),
		"another's renewer":  grant(func(h *Grant) { h.Renewer = g2.Renewer }),
		"no renewer":         grant(func(h *Grant) { h.Renewer = nil }),
		"issuer as renewer":  grant(func(h *Grant) { h.Renewer = g.Issuer }),
		"renewer as issuer":  grant(func(h *Grant) { h.Issuer = g.Renewer }),
		"newer version":      wrap(armourGrant, grantForm{Version: 2}),
		"renewer, other key": grant(func(h *Grant) { h.Renewer = keyed(t, request(t, dir, 1), 9, dir) }),
	} {
		if got, err := ParseGrant(s); !errors.Is(err, ErrText) || got.Name != "" {
			t.Errorf("grant, %s: %v", name, err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(request(f, newRootDir(f), 1).Encode())
	f.Add("-----BEGIN DRAWBRIDGE GATEWAY REQUEST-----\ne30=\n-----END DRAWBRIDGE GATEWAY REQUEST-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		req, err := ParseRequest(text)
		if err != nil {
			if !errors.Is(err, ErrText) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again, err := ParseRequest(req.Encode())
		if err != nil || again.Encode() != req.Encode() || req.check() != nil {
			t.Fatalf("does not come back: %v", err)
		}
	})
}

func FuzzParseGrant(f *testing.F) {
	dir := newRootDir(f)
	f.Add(mustSign(f, dir, request(f, dir, 1), testNow).Encode())
	f.Add("-----BEGIN DRAWBRIDGE GATEWAY GRANT-----\ne30=\n-----END DRAWBRIDGE GATEWAY GRANT-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGrant(text)
		if err != nil {
			if !errors.Is(err, ErrText) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again, err := ParseGrant(g.Encode())
		if err != nil || again.Encode() != g.Encode() || g.check() != nil {
			t.Fatalf("does not come back: %v", err)
		}
	})
}
