package enroll

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

func TestInit(t *testing.T) {
	state := filepath.Join(t.TempDir(), "s")
	o := InitOptions{StateDir: state, Mesh: "lab", Site: "aws", Name: "gw-a", Endpoints: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:51820")}}
	res, err := Init(o)
	if err != nil {
		t.Fatal(err)
	}
	if res.Addr != netip.MustParseAddr("10.86.0.1") || res.Block != netip.MustParsePrefix("10.86.0.0/20") || res.Domain != "lab.mesh" || res.Role != discovery.RoleGateway {
		t.Errorf("got %+v", res)
	}
	dir, err := statedir.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	if id := verify(t, dir); id.ID != res.ID || id.Addr != res.Addr {
		t.Errorf("got %+v", id)
	}
	n, err := dir.Node()
	if err != nil || n.ListenPort != 51820 || len(n.Endpoints) != 1 {
		t.Errorf("got %+v, %v", n, err)
	}
	if _, err := Init(o); !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("second init: %v", err)
	}
	if again := verify(t, dir); again.ID != res.ID {
		t.Error("the second init changed the identity")
	}
}

func TestInitRefuses(t *testing.T) {
	for name, change := range map[string]func(*InitOptions){
		"mesh":   func(o *InitOptions) { o.Mesh = "La b" },
		"site":   func(o *InitOptions) { o.Site = "" },
		"name":   func(o *InitOptions) { o.Name = "a.b" },
		"prefix": func(o *InitOptions) { o.Prefix = netip.MustParsePrefix("203.0.113.0/24") },
		"domain": func(o *InitOptions) { o.Domain = "x..y" },
		"clash":  func(o *InitOptions) { o.Conflict = func(netip.Prefix) error { return errors.New("route") } },
	} {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "s")
			o := InitOptions{StateDir: state, Mesh: "lab", Site: "aws", Name: "gw-a"}
			change(&o)
			if _, err := Init(o); err == nil {
				t.Error("made")
			}
			wantNothing(t, state)
		})
	}
}

func TestJoinServer(t *testing.T) {
	l := newLab(t)
	tok := l.token(t)
	o := options(t, tok, "gpu-1")
	var asked netip.Prefix
	o.Conflict = func(p netip.Prefix) error { asked = p; return nil }
	res := mustJoin(t, o)
	if res.Addr != netip.MustParseAddr("10.86.0.2") || res.Name != "gpu-1" || res.Site != "idc" || res.Role != discovery.RoleServer ||
		res.Mesh != "lab" || res.Gateway != "gw-a" || res.Pin != l.res.Pin || asked != DefaultPrefix {
		t.Errorf("got %+v", res)
	}
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	id := verify(t, dir)
	if id.ID != res.ID {
		t.Errorf("got %+v", id)
	}
	wg, err := dir.WireGuardKey()
	if err != nil {
		t.Fatal(err)
	}
	if pub, _ := wg.Public(); id.WireGuard != [32]byte(pub) {
		t.Error("the certificate has another wireguard key")
	}
	if seeds, err := dir.Peers(); err != nil || len(seeds) != 2 || string(seeds[0]) != "seed-1" {
		t.Errorf("seeds %q, %v", seeds, err)
	}
	if eps, err := dir.Endpoints(); err != nil || len(eps) != 1 || eps[0].Node != l.res.ID || eps[0].Addr.String() != l.addr {
		t.Errorf("endpoints %v, %v", eps, err)
	}
	for _, f := range []func() error{
		func() error { _, err := dir.RootKey(); return err },
		func() error { _, err := dir.IssuerKey(); return err },
		func() error { _, err := dir.Allocations(); return err },
	} {
		if err := f(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a server has a gateway's file: %v", err)
		}
	}
	if got := l.chains(); len(got) != 1 || verifyChain(t, l.dir, got[0]).ID != res.ID {
		t.Errorf("introduced %d", len(got))
	}
	again, err := join(t, o)
	if !errors.Is(err, ErrAlreadyJoined) || again.Addr != res.Addr {
		t.Errorf("second join: %+v, %v", again, err)
	}
	if len(l.chains()) != 1 {
		t.Error("the second join asked the gateway")
	}
}

func TestJoinGatewayAndThroughIt(t *testing.T) {
	l := newLab(t)
	tok := l.token(t, func(o *TokenOptions) { o.Site, o.Role = "aws", discovery.RoleGateway })
	o := options(t, tok, "gw-b")
	res := mustJoin(t, o)
	if res.Addr != netip.MustParseAddr("10.86.16.1") || res.Block != netip.MustParsePrefix("10.86.16.0/20") || res.Role != discovery.RoleGateway {
		t.Fatalf("got %+v", res)
	}
	if got := l.chains(); len(got) != 1 || verifyChain(t, l.dir, got[0]).ID != res.ID {
		t.Errorf("introduced %d", len(got))
	}
	b := &lab{state: o.StateDir}
	b.open(t)
	if _, err := b.dir.RootKey(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the second gateway has the root key: %v", err)
	}
	srv := mustJoin(t, options(t, b.token(t), "gpu-1"))
	if srv.Addr != netip.MustParseAddr("10.86.16.2") || srv.Gateway != "gw-b" {
		t.Errorf("got %+v", srv)
	}
	// The third gateway gets the third block, with the root key brought back.
	third := mustJoin(t, options(t, l.token(t, func(o *TokenOptions) { o.Site, o.Role = "aws", discovery.RoleGateway }), "gw-c"))
	if third.Block != netip.MustParsePrefix("10.86.32.0/20") {
		t.Errorf("got %s", third.Block)
	}
	if err := l.dir.RemoveRootKey(); err != nil {
		t.Fatal(err)
	}
	// Without the root key servers still join.
	if res := mustJoin(t, options(t, l.token(t), "gpu-2")); res.Addr != netip.MustParseAddr("10.86.0.2") {
		t.Errorf("got %s", res.Addr)
	}
}

func TestReplayedToken(t *testing.T) {
	l := newLab(t)
	tok := l.token(t)
	mustJoin(t, options(t, tok, "gpu-1"))
	o := options(t, tok, "gpu-2")
	_, err := join(t, o)
	wantCode(t, err, CodeUsedUp)
	wantNothing(t, o.StateDir)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := strings.Count(l.log.String(), "reason=used_up"); n != 1 {
		t.Errorf("the refusal is logged %d times", n)
	}
	for _, bad := range []string{tok.Encode(), tok.Encode()[20:60]} {
		if strings.Contains(l.log.String(), bad) {
			t.Error("the token is in the log")
		}
	}
}

func TestOneTokenManyAtOnce(t *testing.T) {
	for _, uses := range []int{1, 3} {
		l := newLab(t)
		tok := l.token(t, func(o *TokenOptions) { o.Uses = uses })
		const hosts = 8
		errs, addrs := make([]error, hosts), make([]netip.Addr, hosts)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range hosts {
			o := options(t, tok, "gpu-"+string(rune('a'+i)))
			wg.Go(func() {
				<-start
				var res Result
				res, errs[i] = join(t, o)
				addrs[i] = res.Addr
			})
		}
		close(start)
		wg.Wait()
		seen := map[netip.Addr]bool{}
		for i, err := range errs {
			if err != nil {
				wantCode(t, err, CodeUsedUp)
				continue
			}
			if seen[addrs[i]] {
				t.Errorf("address %s given twice", addrs[i])
			}
			seen[addrs[i]] = true
		}
		if len(seen) != uses {
			t.Errorf("%d joined with a token for %d", len(seen), uses)
		}
	}
}

// TestTwoServersOneDirectory has two processes' worth of servers: the file
// lock, not memory, keeps a token from being spent twice.
func TestTwoServersOneDirectory(t *testing.T) {
	l := newLab(t)
	m := &lab{state: l.state}
	m.open(t)
	for range 5 {
		tok := l.token(t)
		a, b := *tok, *tok
		b.Addrs = []string{m.addr}
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, tok := range []*pki.Token{&a, &b} {
			o := options(t, tok, "gpu-"+tok.ID+string(rune('a'+i)))
			wg.Go(func() { _, errs[i] = join(t, o) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("want one success: %v, %v", errs[0], errs[1])
		}
		wantCode(t, errors.Join(errs...), CodeUsedUp)
	}
}

func TestRefusals(t *testing.T) {
	future := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	for _, tt := range []struct {
		name  string
		token func(*TokenOptions)
		lab   func(*testing.T, *lab, *pki.Token)
		join  func(*JoinOptions)
		want  Code
	}{
		{"expired", func(o *TokenOptions) { o.now = future(-2 * time.Hour) }, nil, nil, CodeExpired},
		{"revoked", nil, func(t *testing.T, l *lab, tok *pki.Token) {
			if err := RevokeToken(l.state, tok.ID); err != nil {
				t.Fatal(err)
			}
		}, nil, CodeRevoked},
		{"unknown", nil, func(t *testing.T, l *lab, tok *pki.Token) {
			if err := l.dir.RemoveToken(tok.ID); err != nil {
				t.Fatal(err)
			}
		}, nil, CodeUnknownToken},
		{"damaged token file", nil, func(t *testing.T, l *lab, tok *pki.Token) {
			if err := os.Truncate(filepath.Join(l.state, "tokens", tok.ID+".json"), 100); err != nil {
				t.Fatal(err)
			}
		}, nil, CodeInternal},
		{"other site", nil, nil, func(o *JoinOptions) { o.Site = "idc-2" }, CodeOtherSite},
		{"other role", nil, nil, func(o *JoinOptions) { o.Role = discovery.RoleGateway }, CodeOtherRole},
		{"site changed in the token", nil, nil, func(o *JoinOptions) { o.Token.Site = "aws" }, CodeOtherSite},
		{"role changed in the token", nil, nil, func(o *JoinOptions) { o.Token.Role = discovery.RoleGateway }, CodeOtherRole},
		{"gateway's name", nil, nil, func(o *JoinOptions) { o.Name = "gw-a" }, CodeNameTaken},
		{"name taken elsewhere", nil, nil, func(o *JoinOptions) { o.Name = "gpu-9" }, CodeNameTaken},
		{"no issuing key", nil, func(t *testing.T, l *lab, _ *pki.Token) {
			if err := os.Remove(filepath.Join(l.state, "issuer.key")); err != nil {
				t.Fatal(err)
			}
		}, nil, CodeNoIssuer},
		{"damaged ledger", nil, func(t *testing.T, l *lab, _ *pki.Token) {
			if err := os.Truncate(filepath.Join(l.state, "allocations.json"), 100); err != nil {
				t.Fatal(err)
			}
		}, nil, CodeNoIssuer},
		{"clock a little ahead", nil, nil, func(o *JoinOptions) { o.now = future(7 * time.Minute) }, CodeClockSkew},
		{"clock a little behind", nil, nil, func(o *JoinOptions) { o.now = future(-5*time.Minute - time.Second) }, CodeClockSkew},
		{"clock a year ahead", nil, nil, func(o *JoinOptions) { o.now = future(365 * 24 * time.Hour) }, CodeClockSkew},
		{"clock at 1970", nil, nil, func(o *JoinOptions) { o.now = func() time.Time { return time.Unix(0, 0) } }, CodeClockSkew},
		{"prefix clash", nil, nil, func(o *JoinOptions) {
			o.Conflict = func(netip.Prefix) error { return errors.New("10.86.0.0/16 dev eth0") }
		}, CodeClash},
		{"other mesh's name", nil, nil, func(o *JoinOptions) { o.Token.Mesh = "prod" }, CodeFakeGateway},
		{"wrong pin", nil, nil, func(o *JoinOptions) { o.Token.Pin[3] ^= 1 }, CodeFakeGateway},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			var tok *pki.Token
			if tt.token != nil {
				tok = l.token(t, tt.token)
			} else {
				tok = l.token(t)
			}
			if tt.lab != nil {
				tt.lab(t, l, tok)
			}
			o := options(t, tok, "gpu-1")
			if tt.join != nil {
				tt.join(&o)
			}
			_, err := join(t, o)
			wantCode(t, err, tt.want)
			if tt.want != CodeInternal { // then nobody knows whether a use was spent
				wantNothing(t, o.StateDir)
			}
			if tt.want == CodeClockSkew && !strings.Contains(err.Error(), "clock") {
				t.Errorf("the clock is not named: %v", err)
			}
			if len(l.chains()) != 0 {
				t.Error("a refused node was introduced")
			}
			if got, err := l.dir.Token(tok.ID); err == nil && len(got.Redeemed) != 0 {
				t.Error("a use was spent")
			}
		})
	}
}

func TestNameTakenByAnotherNode(t *testing.T) {
	l := newLab(t)
	first := mustJoin(t, options(t, l.token(t), "gpu-1"))
	o := options(t, l.token(t), "gpu-1")
	_, err := join(t, o)
	wantCode(t, err, CodeNameTaken)
	if err := Release(l.dir, first.ID, time.Now(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	second := mustJoin(t, o)
	if second.Addr == first.Addr {
		t.Error("a freed address was given again at once")
	}
	if err := Release(l.dir, first.ID, time.Now(), time.Time{}); !errors.Is(err, ErrNoSuchNode) {
		t.Errorf("released twice: %v", err)
	}
}

func TestUnreachableSaysHow(t *testing.T) {
	l := newLab(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	tok := l.token(t, func(o *TokenOptions) { o.Addrs = []string{closed, "no-such-host.invalid:51820"} })
	o := options(t, tok, "gpu-1")
	_, err = join(t, o)
	wantCode(t, err, CodeUnreachable)
	for _, want := range []string{closed, "nothing listens there", "no-such-host.invalid:51820", "does not resolve"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	wantNothing(t, o.StateDir)
	// One good address is enough.
	tok = l.token(t, func(o *TokenOptions) { o.Addrs = []string{closed, l.addr} })
	mustJoin(t, options(t, tok, "gpu-1"))
}

func TestLostAnswerSpendsOneUse(t *testing.T) {
	for _, role := range []discovery.Role{discovery.RoleServer, discovery.RoleGateway} {
		t.Run(string(role), func(t *testing.T) {
			l := newLab(t)
			tok := l.token(t, func(o *TokenOptions) { o.Role = role })
			o := options(t, tok, "new-1")
			o.dial = losing(1)
			res := mustJoin(t, o)
			got, err := l.dir.Token(tok.ID)
			if err != nil || len(got.Redeemed) != 1 || got.Redeemed[0].Node != res.ID {
				t.Errorf("got %+v, %v", got.Redeemed, err)
			}
		})
	}
}

func TestCrashAfterQuestionGoesOn(t *testing.T) {
	l := newLab(t)
	tok := l.token(t)
	o := options(t, tok, "gpu-1")
	o.dial = losing(rounds) // every answer of this run is lost
	_, err := join(t, o)
	wantCode(t, err, CodeUnreachable)
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if dir.Joined() {
		t.Fatal("joined without an answer")
	}
	key, err := dir.IdentityKey()
	if err != nil {
		t.Fatalf("the certified key is gone: %v", err)
	}
	o.dial = nil
	res := mustJoin(t, o)
	if now, _ := dir.IdentityKey(); !now.Equal(key) || res.Addr != netip.MustParseAddr("10.86.0.2") {
		t.Errorf("another key, or address %s", res.Addr)
	}
}

func TestDiskTroubleLeavesNotJoined(t *testing.T) {
	for _, file := range []string{"roots.pem", "chain.pem", "peers.bin", "endpoints.json", "identity.key", "wireguard.key"} {
		t.Run(file, func(t *testing.T) {
			l := newLab(t)
			o := options(t, l.token(t), "gpu-1")
			if err := os.MkdirAll(filepath.Join(o.StateDir, file, "in-the-way"), 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := join(t, o)
			if err == nil {
				t.Fatal("joined")
			}
			dir, err := statedir.Open(o.StateDir)
			if err != nil {
				t.Fatal(err)
			}
			if dir.Joined() {
				t.Fatal("joined by half")
			}
			os.RemoveAll(filepath.Join(o.StateDir, file))
			res := mustJoin(t, o)
			if id := verify(t, dir); id.ID != res.ID || id.Addr != netip.MustParseAddr("10.86.0.2") {
				t.Errorf("got %+v", id)
			}
		})
	}
}

func TestUnfinishedInitIsTidiedUp(t *testing.T) {
	l := newLab(t)
	state := filepath.Join(t.TempDir(), "s")
	crash := func() {
		t.Helper()
		if _, err := Init(InitOptions{StateDir: state, Mesh: "other", Site: "aws", Name: "x"}); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(state, "node.json"))
	}
	crash()
	// Without the mark it might be somebody's mesh: hands off.
	_, err := Init(InitOptions{StateDir: state, Mesh: "lab", Site: "aws", Name: "x"})
	if !errors.Is(err, statedir.ErrInUse) || !strings.Contains(err.Error(), "root.key") {
		t.Fatalf("got %v", err)
	}
	o := options(t, l.token(t), "gpu-1")
	o.StateDir = state
	if _, err := join(t, o); !errors.Is(err, statedir.ErrInUse) {
		t.Fatalf("got %v", err)
	}
	os.RemoveAll(state)
	dir, err := statedir.Create(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Begin(); err != nil { // as a crashed init leaves it
		t.Fatal(err)
	}
	k, _ := makeKeys(discovery.RoleGateway)
	if err := errors.Join(k.keep(dir), dir.SetRootKey(k.issuer)); err != nil {
		t.Fatal(err)
	}
	res := mustJoin(t, o)
	if _, err := dir.RootKey(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root key of an unfinished mesh stays: %v", err)
	}
	if res.ID == pki.NodeID(k.identity.Public().(ed25519.PublicKey)) {
		t.Error("the key of an unfinished init was used")
	}
}

func TestRunningAgentKeepsTheDirectory(t *testing.T) {
	l := newLab(t)
	o := options(t, l.token(t), "gpu-1")
	dir, err := statedir.Create(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	release, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	var locked *statedir.LockedError
	if _, err := join(t, o); !errors.As(err, &locked) {
		t.Errorf("got %v", err)
	}
	release()
	mustJoin(t, o)
}

func TestGatewayKeepsNoSecret(t *testing.T) {
	l := newLab(t)
	tok := l.token(t)
	mustJoin(t, options(t, tok, "gpu-1"))
	text := tok.Encode()
	raw, err := base64.RawURLEncoding.DecodeString(text[5:])
	if err != nil {
		t.Fatal(err)
	}
	seed := raw[10:42]
	err = filepath.WalkDir(l.state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, seed) || bytes.Contains(b, []byte(text)) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(seed))) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCreateTokenRefuses(t *testing.T) {
	l := newLab(t)
	for name, o := range map[string]TokenOptions{
		"no site":     {Addrs: []string{"a:1"}},
		"no endpoint": {Site: "idc"},
		"bad role":    {Site: "idc", Role: "king", Addrs: []string{"a:1"}},
		"too long":    {Site: "idc", TTL: MaxTTL + 1, Addrs: []string{"a:1"}},
		"negative":    {Site: "idc", TTL: -1, Addrs: []string{"a:1"}},
		"too many":    {Site: "idc", Uses: maxUses + 1, Addrs: []string{"a:1"}},
	} {
		if _, err := CreateToken(l.state, o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	server := options(t, l.token(t), "gpu-1")
	mustJoin(t, server)
	if _, err := CreateToken(server.StateDir, TokenOptions{Site: "idc", Addrs: []string{"a:1"}}); err == nil || !strings.Contains(err.Error(), "on a gateway") {
		t.Errorf("on a server: %v", err)
	}
	if _, err := CreateToken(filepath.Join(t.TempDir(), "none"), TokenOptions{Site: "idc"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nowhere: %v", err)
	}
}

func TestListTokensAndPrune(t *testing.T) {
	l := newLab(t)
	old := l.token(t, func(o *TokenOptions) { o.now = func() time.Time { return time.Now().Add(-2 * tokenTrail) } })
	tok := l.token(t)
	mustJoin(t, options(t, tok, "gpu-1"))
	list, err := ListTokens(l.state)
	if err != nil || len(list) != 1 || list[0].ID != tok.ID || len(list[0].Nodes) != 1 || list[0].Nodes[0] != "gpu-1" {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := l.dir.Token(old.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old token: %v", err)
	}
}

func TestRenew(t *testing.T) {
	l := newLab(t)
	o := options(t, l.token(t), "gpu-1")
	res := mustJoin(t, o)
	dir, err := statedir.Open(o.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(40 * 24 * time.Hour) } // all have expired
	l.skew.Store(int64(40 * 24 * time.Hour))
	ctx := t.Context()
	ro := RenewOptions{Dir: dir, Addrs: []string{l.addr}, now: later}
	_, err = Renew(ctx, ro)
	wantCode(t, err, CodeClockSkew) // the gateway's own has expired, too
	if _, err := Renew(ctx, RenewOptions{Dir: l.dir, now: later}); err != nil {
		t.Fatal(err)
	}
	chain, err := Renew(ctx, ro)
	if err != nil {
		t.Fatal(err)
	}
	roots, _ := dir.Roots()
	pinned, _ := pki.NewRoots(roots...)
	id, _, err := pki.Verify(chain, pinned, "lab", later())
	if err != nil || id.Addr != res.Addr || id.ID != res.ID || id.Name != "gpu-1" || id.Site != "idc" {
		t.Errorf("got %+v, %v", id, err)
	}
	if err := Release(l.dir, res.ID, later(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	_, err = Renew(ctx, ro)
	wantCode(t, err, CodeUnknownNode)
	l.revoke(t, res.ID)
	_, err = Renew(ctx, ro)
	wantCode(t, err, CodeRevokedNode)
}

func TestRenewIssuerAtHalfLife(t *testing.T) {
	l := newLab(t)
	before, err := l.dir.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(pki.IssuerLife * 3 / 4) }
	chain, err := Renew(t.Context(), RenewOptions{Dir: l.dir, now: later})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(chain[1], before) {
		t.Error("the issuing certificate was not renewed")
	}
	// With the root key away, the old one serves to its end.
	m := newLab(t)
	if err := m.dir.RemoveRootKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := Renew(t.Context(), RenewOptions{Dir: m.dir, now: later}); err != nil {
		t.Error(err)
	}
}
