package rootca

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

const day = 24 * time.Hour

var (
	testMesh = pki.Mesh{Name: "lab", Domain: "lab.mesh", Prefix: netip.MustParsePrefix("10.86.0.0/16")}
	testNow  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func newRootDir(t testing.TB) *statedir.Dir {
	t.Helper()
	dir, err := CreateRootDir(filepath.Join(t.TempDir(), "root"), testMesh, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func seeded(n int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(n)}, 32))
}

func public(n int) ed25519.PublicKey { return seeded(n).Public().(ed25519.PublicKey) }

func nodeNo(n int) discovery.NodeID { return discovery.NodeID(fmt.Sprintf("%032x", n)) }

// roots are those that a directory trusts.
func roots(t testing.TB, dir *statedir.Dir) [][]byte {
	t.Helper()
	r, err := dir.Roots()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// request is that of gateway number n, called gw-n.
func request(t testing.TB, dir *statedir.Dir, n int) Request {
	t.Helper()
	pin, err := pki.Pin(roots(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	return Request{Mesh: "lab", Name: fmt.Sprintf("gw-%d", n), Node: nodeNo(n), Issuer: public(n), Pin: pin}
}

func mustSign(t testing.TB, dir *statedir.Dir, req Request, now time.Time) Grant {
	t.Helper()
	var g Grant
	err := dir.Update(func() (err error) { g, err = Sign(dir, req, now); return err })
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// events are what the history of a directory tells, in a few words.
func events(t testing.TB, dir *statedir.Dir) []string {
	t.Helper()
	list, err := history.Read(dir.Path(), history.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		if e.Kind != "root" || e.Actor == "" || e.Subject == "" {
			t.Errorf("event %+v", e)
		}
		out = append(out, e.To)
	}
	return out
}

func TestCreateRootDir(t *testing.T) {
	dir := newRootDir(t)
	if !dir.RootOnly() || dir.Joined() {
		t.Error("not an offline root")
	}
	if m, err := pki.MeshOf(roots(t, dir)[0]); err != nil || m != testMesh {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Signer(dir); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(dir.Path(), "root.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	again, err := statedir.Open(dir.Path())
	if err != nil || !again.RootOnly() {
		t.Errorf("opened again: %v", err)
	}
	if _, err := CreateRootDir(dir.Path(), testMesh, testNow); !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("made twice: %v", err)
	}
	if got := events(t, dir); !slices.Equal(got, []string{"created"}) {
		t.Errorf("history: %v", got)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if _, err := CreateRootDir(bad, pki.Mesh{Name: "lab", Domain: "lab.mesh"}, testNow); err == nil {
		t.Error("a root without a prefix")
	}
	if dir, err := CreateRootDir(bad, testMesh, testNow); err != nil || !dir.RootOnly() {
		t.Errorf("after a refusal: %v", err)
	}
}

func TestRootDirAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root")
	dir, err := statedir.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	// As far as the first call came.
	if err := errors.Join(dir.Begin(), dir.SetRootKey(seeded(9))); err != nil {
		t.Fatal(err)
	}
	if dir.RootOnly() {
		t.Error("half a root counts")
	}
	made, err := CreateRootDir(path, testMesh, testNow)
	if err != nil || !made.RootOnly() {
		t.Fatalf("not made anew: %v", err)
	}
	if key, err := made.RootKey(); err != nil || key.Equal(seeded(9)) {
		t.Errorf("the key of the crash: %v", err)
	}
}

func TestSignMakesAGateway(t *testing.T) {
	dir := newRootDir(t)
	g := mustSign(t, dir, request(t, dir, 1), testNow)
	if g.Block != netip.MustParsePrefix("10.86.0.0/20") || g.Name != "gw-1" || g.Node != nodeNo(1) || !slices.EqualFunc(g.Roots, roots(t, dir), bytes.Equal) {
		t.Errorf("%+v", g)
	}
	issuer, err := pki.NewSigner(g.Issuer, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	renewer, err := pki.NewSigner(g.Renewer, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.IssueNode(issuer, pki.Claims{
		Name: "gpu-1", Site: "idc", Role: discovery.RoleServer, Addr: netip.MustParseAddr("10.86.0.2"), Identity: public(50), WireGuard: [32]byte{1},
	}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.RenewNode(renewer, [][]byte{leaf, g.Issuer}, 0, testNow)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := pki.NewRoots(g.Roots...)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pki.Verify(chain, pinned, "lab", testNow); err != nil {
		t.Error(err)
	}
	if got := events(t, dir); !slices.Equal(got, []string{"created", "granted"}) {
		t.Errorf("history: %v", got)
	}
}

func TestSignGivesBlocks(t *testing.T) {
	dir := newRootDir(t)
	block := func(n int) netip.Prefix { b, _ := pki.Block(testMesh.Prefix, n); return b }
	for n := range 16 {
		if g := mustSign(t, dir, request(t, dir, n+1), testNow); g.Block != block(n) {
			t.Errorf("gateway %d got %s", n+1, g.Block)
		}
	}
	// Its own again, with another key, name and time.
	req := request(t, dir, 3)
	req.Issuer, req.Name = public(33), "gw-renamed"
	if g := mustSign(t, dir, req, testNow.Add(day)); g.Block != block(2) || pki.Gateway(g.Issuer) != "gw-renamed" {
		t.Errorf("%s for %s", g.Block, pki.Gateway(g.Issuer))
	}
	refused := func(now time.Time, want string) {
		t.Helper()
		if _, err := Sign(dir, request(t, dir, 17), now); !errors.Is(err, ErrNoBlock) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused(testNow, "reclaim its block: gw-1, gw-2, gw-renamed")
	reclaim := func(who string, now time.Time, want int) {
		t.Helper()
		if got, err := Reclaim(dir, who, now); err != nil || got != block(want) {
			t.Errorf("reclaimed %s, %v", got, err)
		}
	}
	reclaim("gw-9", testNow.Add(2*day), 8)
	reclaim("gw-2", testNow.Add(day), 1)
	reclaim(string(nodeNo(5)), testNow.Add(3*day), 4)
	reclaim("gw-9", testNow.Add(9*day), 8) // again: it rests since the first time
	refused(testNow.Add(Rest), "reclaimed ones rest: 10.86.16.0/20 (until 2026-04-02T12:00:00Z)")
	// One comes back before another got its block.
	if g := mustSign(t, dir, request(t, dir, 5), testNow.Add(4*day)); g.Block != block(4) {
		t.Errorf("gw-5 got %s", g.Block)
	}
	refused(testNow.Add(day+Rest-time.Second), "rest")
	// The one that rested longest goes first.
	if g := mustSign(t, dir, request(t, dir, 17), testNow.Add(day+Rest)); g.Block != block(1) {
		t.Errorf("gw-17 got %s", g.Block)
	}
	if _, err := Sign(dir, request(t, dir, 2), testNow.Add(day+Rest)); !errors.Is(err, ErrNoBlock) {
		t.Errorf("gw-2 is back: %v", err)
	}
	if g := mustSign(t, dir, request(t, dir, 2), testNow.Add(2*day+Rest)); g.Block != block(8) {
		t.Errorf("gw-2 got %s", g.Block)
	}
	if a, err := dir.Allocations(); err != nil || len(a.Blocks) != 16 {
		t.Errorf("%d blocks, %v", len(a.Blocks), err)
	}
}

func TestSignRefuses(t *testing.T) {
	dir := newRootDir(t)
	other := newRootDir(t)
	mustSign(t, dir, request(t, dir, 1), testNow)
	revoked := mustSign(t, dir, request(t, dir, 2), testNow)
	if _, err := RevokeIssuer(dir, revoked.Issuer, "stolen", testNow); err != nil {
		t.Fatal(err)
	}
	root, err := Signer(dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pki.SignNotice(root, "lab", pki.Notice{Kind: pki.NoticeRevoked, Node: nodeNo(3), Reason: "stolen", At: testNow})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := dir.Notices()
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.SetNotices(append(kept, out)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Request)
		want   error
		text   string
	}{
		{"another mesh", func(r *Request) { r.Mesh = "prod" }, ErrOtherMesh, `"prod"`},
		{"another root", func(r *Request) { r.Pin = request(t, other, 1).Pin }, ErrOtherMesh, "trusts the root"},
		{"the name of another gateway", func(r *Request) { r.Name = "gw-1" }, ErrNameTaken, nodeNo(1).Short()},
		{"a bad name", func(r *Request) { r.Name = "gw 9" }, nil, "gw 9"},
		{"no key", func(r *Request) { r.Issuer = nil }, nil, "issuing key"},
		{"no node", func(r *Request) { r.Node = "aa" }, nil, "node"},
		{"a revoked node", func(r *Request) { r.Node = nodeNo(3) }, pki.ErrRevoked, "stolen"},
		{"a revoked key", func(r *Request) { r.Issuer = public(2) }, pki.ErrRevoked, "issuing key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := dir.Allocations()
			told := len(events(t, dir))
			req := request(t, dir, 9)
			tt.change(&req)
			g, err := Sign(dir, req, testNow)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || g.Issuer != nil {
				t.Errorf("got %v", err)
			}
			if after, _ := dir.Allocations(); len(after.Blocks) != len(before.Blocks) || len(events(t, dir)) != told {
				t.Error("it left something behind")
			}
		})
	}
	if err := dir.RemoveRootKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(dir, request(t, dir, 9), testNow); !errors.Is(err, ErrNoRootKey) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := Reclaim(dir, "gw-1", testNow); !errors.Is(err, ErrNoRootKey) {
		t.Errorf("without the key: %v", err)
	}
}

// TestSignOnAGateway: its ledger knows the names of servers too.
func TestSignOnAGateway(t *testing.T) {
	dir := newRootDir(t)
	g := mustSign(t, dir, request(t, dir, 1), testNow)
	a, err := dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	a.Block = g.Block
	a.Addrs = []statedir.Allocation{
		{Addr: netip.MustParseAddr("10.86.0.1"), Node: nodeNo(1), Name: "gw-1", Site: "aws", Role: discovery.RoleGateway},
		{Addr: netip.MustParseAddr("10.86.0.2"), Node: nodeNo(50), Name: "gw-2", Site: "aws", Role: discovery.RoleServer},
		{Addr: netip.MustParseAddr("10.86.0.3"), Node: nodeNo(51), Name: "gw-3", Site: "aws", Role: discovery.RoleServer, Freed: testNow},
	}
	if err := dir.SetAllocations(a); err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(dir, request(t, dir, 2), testNow); !errors.Is(err, ErrNameTaken) {
		t.Errorf("the name of a server: %v", err)
	}
	mustSign(t, dir, request(t, dir, 3), testNow)
	if _, err := Reclaim(dir, "gw-1", testNow); err == nil || !strings.Contains(err.Error(), "own") {
		t.Errorf("its own block: %v", err)
	}
}

func TestSignWritesFirst(t *testing.T) {
	dir := newRootDir(t)
	full := errors.New("no space left")
	dir.Interrupt(func(name string, done bool) error {
		if name == "allocations.json" && !done {
			return full
		}
		return nil
	})
	if g, err := Sign(dir, request(t, dir, 1), testNow); !errors.Is(err, full) || g.Issuer != nil {
		t.Errorf("a grant that is in no ledger: %v", err)
	}
	dir.Interrupt(nil)
	// What cannot be recorded is not done.
	if err := os.RemoveAll(filepath.Join(dir.Path(), "history")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir.Path(), "history"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if g, err := Sign(dir, request(t, dir, 1), testNow); err == nil || g.Issuer != nil || !strings.Contains(err.Error(), "nothing was done") {
		t.Errorf("a grant that is in no history: %v", err)
	}
	if a, err := dir.Allocations(); err != nil || len(a.Blocks) != 0 {
		t.Errorf("%d blocks, %v", len(a.Blocks), err)
	}
}

func TestReclaimRefuses(t *testing.T) {
	dir := newRootDir(t)
	if _, err := Reclaim(dir, "gw-1", testNow); !errors.Is(err, ErrNoGateway) || !strings.Contains(err.Error(), "none") {
		t.Errorf("an empty ledger: %v", err)
	}
	mustSign(t, dir, request(t, dir, 1), testNow)
	mustSign(t, dir, request(t, dir, 2), testNow)
	if _, err := Reclaim(dir, "gw-7", testNow); !errors.Is(err, ErrNoGateway) || !strings.Contains(err.Error(), "gw-1, gw-2") {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := Reclaim(dir, "gw-2", testNow); err != nil {
		t.Error(err)
	}
	// A gateway under the name of one that is gone.
	req := request(t, dir, 3)
	req.Name = "gw-2"
	g := mustSign(t, dir, req, testNow)
	if got, err := Reclaim(dir, "gw-2", testNow); err != nil || got != g.Block {
		t.Errorf("reclaimed %s, %v; want the one in use, %s", got, err, g.Block)
	}
	if got := events(t, dir); !slices.Equal(got, []string{"created", "granted", "granted", "reclaimed", "granted", "reclaimed"}) {
		t.Errorf("history: %v", got)
	}
}
