package enroll

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/rootca"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

func quarantine(id discovery.NodeID, epoch uint64) pki.Notice {
	return pki.Notice{Kind: pki.NoticeQuarantined, Node: id, Reason: "clone", Epoch: epoch}
}

// offline is a mesh whose root key is not at its gateway.
func offline(t *testing.T) (l *lab, root *statedir.Dir) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root")
	l = newLab(t, func(o *InitOptions) { o.OfflineRoot = path })
	root, err := statedir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l, root
}

// carry takes the requests of a gateway to the root, and the grants back.
func carry(t *testing.T, l *lab, root *statedir.Dir, now time.Time) []rootca.Grant {
	t.Helper()
	requests, err := rootRequests(l.dir, now)
	if err != nil {
		t.Fatal(err)
	}
	var grants []rootca.Grant
	for _, r := range requests {
		req, err := rootca.ParseRequest(r.Encode())
		if err != nil {
			t.Fatal(err)
		}
		err = root.Update(func() error {
			g, err := rootca.Sign(root, req, now)
			grants = append(grants, g)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return grants
}

func TestOfflineRoot(t *testing.T) {
	l, root := offline(t)
	secret, err := root.RootKey()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(l.state, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(filepath.Base(path), "root.key") || strings.Contains(string(b), string(secret.Seed())) {
			t.Errorf("the root key is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if l.res.Block.String() != "10.86.0.0/20" {
		t.Errorf("block %s", l.res.Block)
	}
	if a, err := root.Allocations(); err != nil || len(a.Blocks) != 1 || a.Blocks[0].Name != "gw-a" {
		t.Errorf("the root's ledger: %+v, %v", a, err)
	}
	mustJoin(t, options(t, l.token(t), "gpu-1")) // servers need no root

	// A gateway joins: its request is carried to the root, and the grant back.
	o := patient(options(t, l.token(t, gateways), "gw-b"), func(n int) {
		if n != 2 {
			return
		}
		list, err := ListPending(l.state)
		if err != nil || len(list) != 1 || list[0].State != waitsRoot {
			t.Errorf("waiting: %+v, %v", list, err)
		}
		text, err := RootRequests(l.state)
		if err != nil || !strings.Contains(text, "BEGIN") {
			t.Errorf("%q, %v", text, err)
		}
		for _, g := range carry(t, l, root, time.Now()) {
			if _, err := InstallGrant(l.state, g.Encode()); err != nil {
				t.Error(err)
			}
		}
		if text, err := RootRequests(l.state); err != nil || text != "" {
			t.Errorf("asked for again: %q, %v", text, err)
		}
	})
	res := mustJoin(t, o)
	if res.Block.String() != "10.86.16.0/20" || res.Role != discovery.RoleGateway {
		t.Errorf("got %+v", res)
	}
	b := &lab{state: o.StateDir, res: res}
	b.open(t)
	if res := mustJoin(t, options(t, b.token(t), "gpu-2")); res.Addr.String() != "10.86.16.2" {
		t.Errorf("through the new gateway: %+v", res)
	}
}

func TestOfflineRootWithApproval(t *testing.T) {
	l, root := offline(t)
	asked := 0
	o := patient(options(t, l.token(t, gateways, approval), "gw-b"), func(n int) {
		text, err := RootRequests(l.state)
		if err != nil {
			t.Error(err)
		}
		asked += strings.Count(text, "BEGIN")
		switch n {
		case 2:
			list, _ := ListPending(l.state)
			if _, err := Approve(l.state, list[0].Fingerprint, "user alice"); err != nil || asked != 0 {
				t.Errorf("%v; %d requests before the approval", err, asked)
			}
		case 3:
			for _, g := range carry(t, l, root, time.Now()) {
				if _, err := InstallGrant(l.state, g.Encode()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	mustJoin(t, o)
	if asked != 1 {
		t.Errorf("%d requests to the root, want 1", asked)
	}
}

func TestInitRefusesOfflineRoot(t *testing.T) {
	base := t.TempDir()
	state := filepath.Join(base, "state")
	os.Mkdir(filepath.Join(base, "other"), 0o700)
	os.Symlink(base, filepath.Join(base, "other", "link"))
	for name, root := range map[string]string{
		"the same":        state,
		"inside":          filepath.Join(state, "root"),
		"around":          base,
		"through a link":  filepath.Join(base, "other", "link", "state", "root"),
		"spelt otherwise": filepath.Join(base, "x", "..", "state", "root"),
	} {
		_, err := Init(InitOptions{StateDir: state, Mesh: "lab", Site: "aws", Name: "gw-a", OfflineRoot: root})
		if err == nil {
			t.Errorf("%s: made", name)
		}
		wantNothing(t, state)
	}
	// A directory that has a root already keeps it.
	l, root := offline(t)
	before, _ := root.RootKey()
	_, err := Init(InitOptions{StateDir: filepath.Join(base, "second"), Mesh: "lab", Site: "aws", Name: "gw-a", OfflineRoot: root.Path()})
	if !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("a second mesh in %s: %v", root, err)
	}
	if after, err := root.RootKey(); err != nil || !after.Equal(before) {
		t.Errorf("the root key changed: %v", err)
	}
	mustJoin(t, options(t, l.token(t), "gpu-1"))
}

// TestInstallGrantRefuses has grants that a person might bring by mistake, or
// that somebody altered on the way.
func TestInstallGrantRefuses(t *testing.T) {
	l, root := offline(t)
	other, otherRoot := offline(t)
	_, err := join(t, patient(options(t, l.token(t, gateways), "gw-b"), func(int) {}))
	wantCode(t, err, CodePending)
	_, err = join(t, patient(options(t, l.token(t, gateways), "gw-c"), func(int) {}))
	wantCode(t, err, CodePending)
	_, err = join(t, patient(options(t, other.token(t, gateways), "gw-b"), func(int) {}))
	wantCode(t, err, CodePending)
	grants := carry(t, l, root, time.Now())
	foreign := carry(t, other, otherRoot, time.Now())[0]
	good := grants[0]

	swapped, named, moved, mixed := good, good, good, good
	swapped.Node, swapped.Name = grants[1].Node, grants[1].Name
	named.Name = "gw-z"
	moved.Block = grants[1].Block
	mixed.Renewer = grants[1].Renewer
	foreign.Node = good.Node
	for name, text := range map[string]string{
		"no grant":            "hello",
		"another mesh":        foreign.Encode(),
		"another gateway":     swapped.Encode(),
		"another name":        named.Encode(),
		"another block":       moved.Encode(),
		"of two":              mixed.Encode(),
		"cut short":           good.Encode()[:len(good.Encode())/2],
		"nobody waits for it": carry(t, other, otherRoot, time.Now())[0].Encode(),
	} {
		if _, err := InstallGrant(l.state, text); err == nil {
			t.Errorf("%s: installed", name)
		}
	}
	list, err := l.dir.ListPending()
	if err != nil || len(list) != 2 || list[0].Grant != "" || list[1].Grant != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := InstallGrant(l.state, good.Encode()); err != nil {
		t.Error(err)
	}
}

// TestGatewayRenewsItsIssuer in each of the ways that there are.
func TestGatewayRenewsItsIssuer(t *testing.T) {
	const later = pki.IssuerLife * 3 / 4
	clock := func() time.Time { return time.Now().Add(later) }
	changed := func(t *testing.T, d *statedir.Dir, renew func()) bool {
		t.Helper()
		issuer, err := d.Issuer()
		if err != nil {
			t.Fatal(err)
		}
		renewer, err := d.Renewer()
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pki.BlockOf(issuer)
		renew()
		issuer2, err := d.Issuer()
		if err != nil {
			t.Fatal(err)
		}
		renewer2, err := d.Renewer()
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := pki.BlockOf(issuer2); again != block {
			t.Errorf("the block %s became %s", block, again)
		}
		if (string(issuer) == string(issuer2)) != (string(renewer) == string(renewer2)) {
			t.Error("one of the two was renewed")
		}
		return string(issuer) != string(issuer2)
	}
	t.Run("by the root key here", func(t *testing.T) {
		l := newLab(t)
		if !changed(t, l.dir, func() {
			if _, err := Renew(t.Context(), RenewOptions{Dir: l.dir, now: clock}); err != nil {
				t.Error(err)
			}
		}) {
			t.Error("not renewed")
		}
	})
	t.Run("through the gateway with the root key", func(t *testing.T) {
		l := newLab(t)
		b := l.second(t, "gw-b")
		l.skew.Store(int64(later))
		if _, err := Renew(t.Context(), RenewOptions{Dir: l.dir, now: clock}); err != nil {
			t.Fatal(err)
		}
		before := l.ledgerText(t)
		var chain [][]byte
		if !changed(t, b.dir, func() {
			var err error
			if chain, err = Renew(t.Context(), RenewOptions{Dir: b.dir, Addrs: []string{l.addr}, now: clock}); err != nil {
				t.Error(err)
			}
		}) {
			t.Error("not renewed")
		}
		id, _, err := b.roll.Verify(chain, clock())
		if err != nil || id.ID != b.res.ID || id.Addr != b.res.Addr {
			t.Errorf("%+v, %v", id, err)
		}
		if after := l.ledgerText(t); after != before {
			t.Errorf("the ledger changed from\n%s\nto\n%s", before, after)
		}
	})
	t.Run("offline", func(t *testing.T) {
		l, root := offline(t)
		l.skew.Store(int64(later))
		if changed(t, l.dir, func() {
			if _, err := Renew(t.Context(), RenewOptions{Dir: l.dir, now: clock}); err != nil {
				t.Error(err) // until its end the old one serves
			}
		}) {
			t.Error("renewed without the root key")
		}
		if !changed(t, l.dir, func() {
			grants := carry(t, l, root, clock())
			if len(grants) != 1 {
				t.Fatalf("%d requests", len(grants))
			}
			if _, err := InstallGrant(l.state, grants[0].Encode()); err != nil {
				t.Error(err)
			}
		}) {
			t.Error("not renewed")
		}
		if requests, err := rootRequests(l.dir, clock()); err != nil || len(requests) != 0 {
			t.Errorf("asked for again: %v, %v", requests, err)
		}
	})
	t.Run("a block that was taken back", func(t *testing.T) {
		l := newLab(t)
		b := l.second(t, "gw-b")
		if err := l.dir.Update(func() error { _, err := rootca.Reclaim(l.dir, "gw-b", time.Now()); return err }); err != nil {
			t.Fatal(err)
		}
		l.skew.Store(int64(later))
		if _, err := Renew(t.Context(), RenewOptions{Dir: l.dir, now: clock}); err != nil {
			t.Fatal(err)
		}
		if changed(t, b.dir, func() {
			if _, err := Renew(t.Context(), RenewOptions{Dir: b.dir, Addrs: []string{l.addr}, now: clock}); err != nil {
				t.Error(err)
			}
		}) {
			t.Error("renewed")
		}
	})
}

// ledgerText is the ledger of blocks, for comparing.
func (l *lab) ledgerText(t *testing.T) string {
	t.Helper()
	a, err := l.dir.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, g := range a.Blocks {
		b.WriteString(g.Block.String() + " " + string(g.Node) + " " + g.Name + "\n")
	}
	return b.String()
}

// TestGatewayReplaced is the story of a gateway host that was rebuilt.
func TestGatewayReplaced(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	_, err := join(t, options(t, l.token(t, gateways), "gw-b"))
	wantCode(t, err, CodeNameTaken)
	res := mustJoin(t, options(t, l.token(t, gateways, func(o *TokenOptions) { o.Replace = true }), "gw-b"))
	if res.Block == b.res.Block {
		t.Error("the block did not rest")
	}
	if replaced, _ := l.told(); len(replaced) != 1 || replaced[0].ID != b.res.ID || replaced[0].Role != discovery.RoleGateway {
		t.Errorf("told of %v", replaced)
	}
	a, err := l.dir.Allocations()
	if err != nil || len(a.Blocks) != 3 || a.Blocks[1].Freed.IsZero() || !a.Blocks[2].Freed.IsZero() {
		t.Errorf("%+v, %v", a.Blocks, err)
	}
}

func TestGatewayTokenAtAGatewayWithoutRoot(t *testing.T) {
	l := newLab(t)
	b := l.second(t, "gw-b")
	o := patient(options(t, b.token(t, gateways), "gw-c"), func(n int) {
		if n != 2 {
			return
		}
		for _, g := range carry(t, b, l.dir, time.Now()) {
			if _, err := InstallGrant(b.state, g.Encode()); err != nil {
				t.Error(err)
			}
		}
	})
	if res := mustJoin(t, o); res.Block.String() != "10.86.32.0/20" || res.Gateway != "gw-b" {
		t.Errorf("got %+v", res)
	}
}
