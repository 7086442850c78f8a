package enroll

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"drawbridge/agent/pki"
	"drawbridge/agent/statedir"
	"drawbridge/discovery"
)

// lab is a gateway that serves on loopback.
type lab struct {
	state string
	dir   *statedir.Dir
	srv   *Server
	addr  string
	res   Result

	roll *pki.Roll
	skew atomic.Int64 // of the server's clock, nanoseconds

	mu         sync.Mutex // guards the fields below
	introduced [][][]byte
	greeted    []discovery.NodeID
	log        bytes.Buffer
	mesh       []discovery.Identity // what the mesh knows of, beside the ledger
	living     map[discovery.NodeID]bool
	used       map[netip.Addr]bool
	replaced   []discovery.Identity
	left       []discovery.Identity
}

// Write makes the lab the sink of the server's log.
func (l *lab) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

func (l *lab) chains() [][][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.introduced
}

func newLab(t testing.TB, change ...func(*InitOptions)) *lab {
	t.Helper()
	l := &lab{state: filepath.Join(t.TempDir(), "gw-a")}
	o := InitOptions{StateDir: l.state, Mesh: "lab", Site: "aws", Name: "gw-a"}
	for _, c := range change {
		c(&o)
	}
	res, err := Init(o)
	if err != nil {
		t.Fatal(err)
	}
	l.res = res
	l.open(t)
	l.knows(discovery.Identity{ID: "99", Name: "gpu-9", Role: discovery.RoleServer, NotAfter: time.Now().Add(365 * 24 * time.Hour)}, false)
	return l
}

// open serves the state directory.
func (l *lab) open(t testing.TB, change ...func(*Options)) {
	t.Helper()
	var err error
	if l.dir, err = statedir.Open(l.state); err != nil {
		t.Fatal(err)
	}
	if l.roll == nil {
		tr, err := trustOf(l.dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.roll = tr.roll
	}
	if l.living == nil {
		l.living, l.used = map[discovery.NodeID]bool{}, map[netip.Addr]bool{}
	}
	o := Options{
		Dir:   l.dir,
		Roll:  l.roll,
		Seeds: func() [][]byte { return [][]byte{[]byte("seed-1"), []byte("seed-2")} },
		Introduce: func(chain [][]byte) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.introduced = append(l.introduced, chain)
		},
		Greeted: func(id discovery.NodeID, chain [][]byte) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if who, _, err := l.roll.Verify(chain, time.Now()); err == nil && who.ID == id {
				l.greeted = append(l.greeted, id)
			}
		},
		Named: func(name string) []discovery.Identity {
			l.mu.Lock()
			defer l.mu.Unlock()
			return slices.DeleteFunc(slices.Clone(l.mesh), func(id discovery.Identity) bool { return id.Name != name })
		},
		Alive: func(id discovery.NodeID) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.living[id]
		},
		AddrInUse: func(a netip.Addr) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.used[a]
		},
		Replaced: func(id discovery.Identity) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.replaced = append(l.replaced, id)
		},
		Left: func(id discovery.Identity) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.left = append(l.left, id)
		},
		Logger: slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&o)
	}
	l.srv = NewServer(o)
	l.srv.now = func() time.Time { return time.Now().Add(time.Duration(l.skew.Load())) }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.srv.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// now is the server's time.
func (l *lab) now() time.Time { return l.srv.now() }

// knows puts a node into what the mesh knows of.
func (l *lab) knows(id discovery.Identity, alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mesh = append(l.mesh, id)
	l.living[id.ID] = alive
}

// told is a copy of what the server told the house.
func (l *lab) told() (replaced, left []discovery.Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.replaced), slices.Clone(l.left)
}

// say spreads a notice of this gateway to itself and the others.
func (l *lab) say(t testing.TB, n pki.Notice, others ...*lab) {
	t.Helper()
	s, err := signer(l.dir.Issuer, l.dir.IssuerKey)
	if err != nil {
		t.Fatal(err)
	}
	n.At = l.now()
	b, err := pki.SignNotice(s, "lab", n)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range append(others, l) {
		if _, _, err := o.roll.Add(b, o.now()); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *lab) revoke(t testing.TB, id discovery.NodeID, others ...*lab) {
	t.Helper()
	l.say(t, pki.Notice{Kind: pki.NoticeRevoked, Node: id, Reason: "operator"}, others...)
}

// second is another gateway of the mesh, which serves.
func (l *lab) second(t testing.TB, name string) *lab {
	t.Helper()
	o := options(t, l.token(t, func(o *TokenOptions) { o.Site, o.Role = "aws", discovery.RoleGateway }), name)
	res := mustJoin(t, o)
	b := &lab{state: o.StateDir, res: res}
	b.skew.Store(l.skew.Load())
	b.open(t)
	return b
}

func (l *lab) token(t testing.TB, change ...func(*TokenOptions)) *pki.Token {
	t.Helper()
	o := TokenOptions{Site: "idc", Addrs: []string{l.addr}}
	for _, c := range change {
		c(&o)
	}
	text, err := CreateToken(l.state, o)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := pki.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func options(t testing.TB, tok *pki.Token, name string) JoinOptions {
	t.Helper()
	return JoinOptions{StateDir: filepath.Join(t.TempDir(), name), Token: tok, Name: name, pause: time.Millisecond}
}

func join(t testing.TB, o JoinOptions) (Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return Join(ctx, o)
}

func mustJoin(t testing.TB, o JoinOptions) Result {
	t.Helper()
	res, err := join(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// wantCode checks code, and that a person is told what to do.
func wantCode(t testing.TB, err error, want Code) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("got %v, want code %s", err, want)
	}
	if e.Next == "" {
		t.Errorf("no next step: %v", e)
	}
}

// wantNothing checks that the directory is as if join had never run.
func wantNothing(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "agent.lock" {
			t.Errorf("left in the state directory: %s", e.Name())
		}
	}
}

func verify(t testing.TB, dir *statedir.Dir) discovery.Identity {
	t.Helper()
	chain, err := dir.Chain()
	if err != nil {
		t.Fatal(err)
	}
	return verifyChain(t, dir, chain)
}

func verifyChain(t testing.TB, dir *statedir.Dir, chain [][]byte) discovery.Identity {
	t.Helper()
	roots, err := dir.Roots()
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := pki.NewRoots(roots...)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := pki.Verify(chain, pinned, "lab", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return id
}
