package statedir

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

func newDir(t *testing.T) *Dir {
	t.Helper()
	d, err := Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var testNode = Node{
	Version: 1, Mesh: "lab", Prefix: netip.MustParsePrefix("10.86.0.0/16"), Domain: "lab.mesh", ListenPort: 51820,
	Endpoints: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:51820")}, Site: "aws", Role: discovery.RoleGateway, Name: "gw-a",
}

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32))
}

var testToken = Token{
	Version: 2, ID: "0011223344556677", Public: bytes.Repeat([]byte{7}, 32), Site: "idc", Role: discovery.RoleServer,
	Created: testTime, Expires: testTime.Add(time.Hour), Uses: 2,
	Names: []string{"gpu-*"}, Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Ephemeral: true, Approval: true, Replace: true,
	Redeemed: []Redemption{{Node: "aa", Name: "gpu-1", At: testTime, Leaf: []byte{1, 2}, Above: []byte{3}}},
}

var testPending = Pending{
	Version: 1, Node: "00112233445566778899aabbccddeeff", Token: "0011223344556677", Name: "gw-b", Site: "aws", Role: discovery.RoleGateway,
	From: netip.MustParseAddr("198.51.100.7"), WireGuard: bytes.Repeat([]byte{5}, 32), Issuer: bytes.Repeat([]byte{6}, 32),
	Since: testTime, Until: testTime.Add(time.Hour), Approval: true, Verdict: Approved, By: "user alice", Decided: testTime, Grant: "text",
}

var testLedger = Allocations{
	Version: 2, Block: netip.MustParsePrefix("10.86.0.0/20"),
	Addrs: []Allocation{
		{Addr: netip.MustParseAddr("10.86.0.1"), Node: "aa", Name: "gw-a", Site: "aws", Role: discovery.RoleGateway, Since: testTime},
		{Addr: netip.MustParseAddr("10.86.0.2"), Node: "bb", Name: "gpu-1", Site: "idc", Role: discovery.RoleServer, Since: testTime, Freed: testTime},
	},
	Blocks: []Grant{
		{Block: netip.MustParsePrefix("10.86.0.0/20"), Node: "aa", Name: "gw-a", Since: testTime},
		{Block: netip.MustParsePrefix("10.86.16.0/20"), Node: "cc", Name: "gw-b", Since: testTime, Freed: testTime},
	},
}

// item is one kind of file: how it is written, read, and what comes back.
type item struct {
	file  string
	write func(*Dir) error
	read  func(*Dir) (any, error)
	want  any
}

func items(t *testing.T) []item {
	t.Helper()
	wg := tunnel.PrivateKeyOf((*[tunnel.KeyLen]byte)(bytes.Repeat([]byte{9}, tunnel.KeyLen)))
	certs := [][]byte{{1, 2, 3}, {4, 5}, {6}}
	eps := []discovery.Endpoint{{Node: "aa", Addr: netip.MustParseAddrPort("203.0.113.9:51820")}, {Node: "bb", Addr: netip.MustParseAddrPort("198.51.100.1:1")}}
	key := func(f func(*Dir) (ed25519.PrivateKey, error)) func(*Dir) (any, error) {
		return func(d *Dir) (any, error) { return f(d) }
	}
	return []item{
		{fileIdentity, func(d *Dir) error { return d.SetIdentityKey(testKey(1)) }, key((*Dir).IdentityKey), testKey(1)},
		{fileIssuerKey, func(d *Dir) error { return d.SetIssuerKey(testKey(2)) }, key((*Dir).IssuerKey), testKey(2)},
		{fileRootKey, func(d *Dir) error { return d.SetRootKey(testKey(3)) }, key((*Dir).RootKey), testKey(3)},
		{fileNextRootKey, func(d *Dir) error { return d.SetNextRootKey(testKey(4)) }, key((*Dir).NextRootKey), testKey(4)},
		{fileOldRootKey, func(d *Dir) error { return d.SetOldRootKey(testKey(5)) }, key((*Dir).OldRootKey), testKey(5)},
		{fileWireGuard, func(d *Dir) error { return d.SetWireGuardKey(wg) }, func(d *Dir) (any, error) { return d.WireGuardKey() }, wg},
		{fileChain, func(d *Dir) error { return d.SetChain(certs) }, func(d *Dir) (any, error) { return d.Chain() }, certs},
		{fileRoots, func(d *Dir) error { return d.SetRoots(certs) }, func(d *Dir) (any, error) { return d.Roots() }, certs},
		{fileIssuer, func(d *Dir) error { return d.SetIssuer(certs[0]) }, func(d *Dir) (any, error) { return d.Issuer() }, certs[0]},
		{fileRenewer, func(d *Dir) error { return d.SetRenewer(certs[1]) }, func(d *Dir) (any, error) { return d.Renewer() }, certs[1]},
		{fileNotices, func(d *Dir) error { return d.SetNotices([][]byte{[]byte("one"), {}}) }, func(d *Dir) (any, error) { return d.Notices() }, [][]byte{[]byte("one"), {}}},
		{fileNode, func(d *Dir) error { return d.SetNode(testNode) }, func(d *Dir) (any, error) { return d.Node() }, testNode},
		{filepath.Join(dirTokens, testToken.ID+".json"), func(d *Dir) error { return d.SetToken(testToken) }, func(d *Dir) (any, error) { return d.Token(testToken.ID) }, testToken},
		{fileAllocations, func(d *Dir) error { return d.SetAllocations(testLedger) }, func(d *Dir) (any, error) { return d.Allocations() }, testLedger},
		{filepath.Join(dirPending, string(testPending.Node)+"-"+testPending.Token+".json"), func(d *Dir) error { return d.SetPending(testPending) }, func(d *Dir) (any, error) { return d.PendingOf(testPending.Node, testPending.Token) }, testPending},
		{filePeers, func(d *Dir) error { return d.SetPeers([][]byte{[]byte("one"), {}, []byte("three")}) }, func(d *Dir) (any, error) { return d.Peers() }, [][]byte{[]byte("one"), {}, []byte("three")}},
		{fileEndpoints, func(d *Dir) error { return d.SetEndpoints(eps) }, func(d *Dir) (any, error) { return d.Endpoints() }, eps},
		{fileDoors, func(d *Dir) error { return d.SetDoors([]netip.AddrPort{eps[0].Addr}) }, func(d *Dir) (any, error) { return d.Doors() }, []netip.AddrPort{eps[0].Addr}},
		{fileMemory, func(d *Dir) error { return d.SetMemory([]byte("memory")) }, func(d *Dir) (any, error) { return d.Memory() }, []byte("memory")},
		{fileClock, func(d *Dir) error { return d.SetLatestTime(testTime) }, func(d *Dir) (any, error) { return d.LatestTime() }, testTime},
	}
}

var compare = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}

func TestFilesComeBack(t *testing.T) {
	for _, it := range items(t) {
		t.Run(it.file, func(t *testing.T) {
			d := newDir(t)
			if _, err := it.read(d); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("missing file: %v, want ErrNotExist", err)
			}
			for range 2 { // also over an old one
				if err := it.write(d); err != nil {
					t.Fatal(err)
				}
			}
			got, err := it.read(d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(it.want, got, compare); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			st, err := os.Stat(filepath.Join(d.Path(), it.file))
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
			left, _ := filepath.Glob(filepath.Join(d.Path(), "*", tempPattern))
			top, _ := filepath.Glob(filepath.Join(d.Path(), tempPattern))
			if len(left)+len(top) != 0 {
				t.Errorf("left behind: %v %v", left, top)
			}
		})
	}
}

func TestFilesDamagedAnywhere(t *testing.T) {
	for _, it := range items(t) {
		t.Run(it.file, func(t *testing.T) {
			d := newDir(t)
			if err := it.write(d); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(d.Path(), it.file)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			check := func(what string, data []byte) {
				t.Helper()
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := it.read(d)
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("%s: got %v, want ErrCorrupt or ErrVersion", what, err)
				}
				if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), ";") {
					t.Fatalf("%s: error names no file or no next step: %v", what, err)
				}
			}
			for n := range whole {
				check("cut at "+strconv.Itoa(n), whole[:n])
				flipped := bytes.Clone(whole)
				flipped[n] ^= 1
				check("flipped at "+strconv.Itoa(n), flipped)
			}
			check("zeros", make([]byte, len(whole)))
			check("longer", append(bytes.Clone(whole), '\n'))
		})
	}
}

func TestFilesRefused(t *testing.T) {
	t.Run("newer format", func(t *testing.T) {
		d := newDir(t)
		os.WriteFile(filepath.Join(d.Path(), fileMemory), []byte("# drawbridge state 2 whatever\nbody"), 0o600)
		if _, err := d.Memory(); !errors.Is(err, ErrVersion) {
			t.Errorf("got %v, want ErrVersion", err)
		}
	})
	t.Run("newer node", func(t *testing.T) {
		d := newDir(t)
		n := testNode
		n.Version = 2
		if err := d.writeJSON(fileNode, n); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Node(); !errors.Is(err, ErrVersion) {
			t.Errorf("got %v, want ErrVersion", err)
		}
	})
	t.Run("unknown field", func(t *testing.T) {
		d := newDir(t)
		if err := d.write(fileNode, []byte(`{"version":1,"colour":"red"}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Node(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
	t.Run("another file under this name", func(t *testing.T) {
		d := newDir(t)
		if err := d.SetIssuerKey(testKey(1)); err != nil {
			t.Fatal(err)
		}
		os.Rename(filepath.Join(d.Path(), fileIssuerKey), filepath.Join(d.Path(), fileIdentity))
		if _, err := d.IdentityKey(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		d := newDir(t)
		if err := os.WriteFile(filepath.Join(d.Path(), fileNode), make([]byte, maxFile+1000), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Node(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
		if err := d.SetMemory(make([]byte, maxFile+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
	})
	t.Run("symbolic link", func(t *testing.T) {
		d := newDir(t)
		os.Symlink("/etc/passwd", filepath.Join(d.Path(), fileNode))
		if _, err := d.Node(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		d := newDir(t)
		os.Mkdir(filepath.Join(d.Path(), fileNode), 0o700)
		if _, err := d.Node(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
	t.Run("unreadable", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root reads everything")
		}
		d := newDir(t)
		if err := d.SetNode(testNode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(filepath.Join(d.Path(), fileNode), 0)
		if _, err := d.Node(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v, want ErrPermission", err)
		}
	})
	t.Run("token id is not a path", func(t *testing.T) {
		d := newDir(t)
		if _, err := d.Token("../../../etc/passwd"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want ErrNotExist", err)
		}
	})
	t.Run("address twice", func(t *testing.T) {
		d := newDir(t)
		a := testLedger
		a.Addrs = append(a.Addrs[:1:1], a.Addrs[0])
		if err := d.SetAllocations(a); err == nil {
			t.Error("a ledger with one address twice was written")
		}
	})
}

func TestOpenRepairsPermissions(t *testing.T) {
	d := newDir(t)
	if err := d.SetIdentityKey(testKey(1)); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(d.Path(), fileIdentity)
	os.Chmod(d.Path(), 0o755)
	os.Chmod(key, 0o644)
	d, err := Open(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.IdentityKey(); err != nil {
		t.Fatal(err)
	}
	if got := d.Repairs(); len(got) != 2 || !strings.Contains(got[1], key) {
		t.Errorf("repairs: %q", got)
	}
	if got := d.Repairs(); len(got) != 0 {
		t.Errorf("told twice: %q", got)
	}
	for path, want := range map[string]fs.FileMode{d.Path(): 0o700, key: 0o600} {
		if st, _ := os.Stat(path); st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", path, st.Mode().Perm(), want)
		}
	}
}

func TestOpenMissing(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "drawbridge join") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	if _, err := Open(file); err == nil {
		t.Error("a file was opened as a directory")
	}
}

func TestBeginCommit(t *testing.T) {
	d := newDir(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.Begin())
	must(d.SetIdentityKey(testKey(1)))
	must(d.Begin()) // a crash before: begin again
	must(d.Abandon())
	if entries, _ := os.ReadDir(d.Path()); len(entries) != 0 {
		t.Errorf("left after Abandon: %v", entries)
	}
	must(d.Begin())
	must(d.SetIdentityKey(testKey(1)))
	must(d.Commit(testNode))
	if !d.Joined() {
		t.Error("not joined after Commit")
	}
	if err := d.Begin(); !errors.Is(err, ErrInUse) {
		t.Errorf("Begin on a member: %v", err)
	}
	must(d.Abandon()) // must not touch a member
	if _, err := d.IdentityKey(); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(d.Path(), fileNode))
	if err := d.Begin(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fileIdentity) {
		t.Errorf("Begin over somebody's keys: %v", err)
	}
}

func TestLockExcludes(t *testing.T) {
	d := newDir(t)
	release, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Lock()
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = other.Lock()
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// TestLockEndsWithProcess holds the lock in a child that is killed.
func TestLockEndsWithProcess(t *testing.T) {
	if path := os.Getenv("STATEDIR_TEST_LOCK"); path != "" {
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Lock(); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("locked\n")
		select {}
	}
	d := newDir(t)
	child := exec.Command(os.Args[0], "-test.run=TestLockEndsWithProcess$")
	child.Env = append(os.Environ(), "STATEDIR_TEST_LOCK="+d.Path())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	_, err = d.Lock()
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != child.Process.Pid {
		t.Fatalf("got %v, want the child's pid %d", err, child.Process.Pid)
	}
	child.Process.Kill()
	child.Wait()
	release, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestLockSweepsOldTemporaryFiles(t *testing.T) {
	d := newDir(t)
	old, young := filepath.Join(d.Path(), ".tmp-1"), filepath.Join(d.Path(), ".tmp-2")
	os.WriteFile(old, nil, 0o600)
	os.WriteFile(young, nil, 0o600)
	past := time.Now().Add(-time.Hour)
	os.Chtimes(old, past, past)
	release, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old one stays: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("young one taken: %v", err)
	}
}

func TestUpdateExcludes(t *testing.T) {
	d := newDir(t)
	if err := d.SetMemory([]byte("0")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				err := d.Update(func() error {
					b, err := d.Memory()
					if err != nil {
						return err
					}
					n, _ := strconv.Atoi(string(b))
					return d.SetMemory([]byte(strconv.Itoa(n + 1)))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if b, err := d.Memory(); err != nil || string(b) != "40" {
		t.Errorf("got %s, %v; want 40", b, err)
	}
}

func TestTokensSortedAndDamagedApart(t *testing.T) {
	d := newDir(t)
	if got, err := d.Tokens(); err != nil || len(got) != 0 {
		t.Fatalf("none: %v, %v", got, err)
	}
	for i, id := range []string{"aaaaaaaa", "bbbbbbbb", "cccccccc"} {
		tok := testToken
		tok.ID, tok.Created = id, testTime.Add(-time.Duration(i)*time.Minute)
		if err := d.SetToken(tok); err != nil {
			t.Fatal(err)
		}
	}
	os.Truncate(filepath.Join(d.Path(), dirTokens, "bbbbbbbb.json"), 20)
	got, err := d.Tokens()
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if len(got) != 2 || got[0].ID != "cccccccc" || got[1].ID != "aaaaaaaa" {
		t.Errorf("got %v", got)
	}
	if err := errors.Join(d.RemoveToken("bbbbbbbb"), d.RemoveToken("bbbbbbbb"), d.RemoveToken("../x")); err != nil {
		t.Error(err)
	}
	if _, err := d.Tokens(); err != nil {
		t.Error(err)
	}
}

func TestPEMReadableByOthers(t *testing.T) {
	d := newDir(t)
	if err := d.SetIdentityKey(testKey(1)); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(filepath.Join(d.Path(), fileIdentity))
	if block, _ := pem.Decode(b); block == nil || block.Type != "PRIVATE KEY" {
		t.Error("encoding/pem does not read the key file")
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.Command(openssl, "pkey", "-noout", "-text_pub", "-in", filepath.Join(d.Path(), fileIdentity)).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("ED25519")) {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode("peers", encodeBlobs([][]byte{{1}, {}})))
	f.Add(encode("node", []byte("{}")))
	f.Add([]byte("# drawbridge state 1 peers 0 \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := decode("peers", data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		if again, err := decode("peers", encode("peers", body)); err != nil || !bytes.Equal(again, body) {
			t.Fatalf("does not come back: %v", err)
		}
	})
}

// FuzzBodies feeds what stands behind the checksum: a file written by another
// program, or by a later version of this one.
func FuzzBodies(f *testing.F) {
	f.Add(encodeBlobs([][]byte{{1}, {}}))
	f.Add([]byte(`{"version":1,"mesh":"lab"}`))
	f.Add([]byte(`[{"node":"aa","addr":"1.2.3.4:5"}]`))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if blobs, err := decodeBlobs(body); err == nil && !bytes.Equal(encodeBlobs(blobs), body) {
			t.Fatal("blobs do not come back")
		}
		_, _ = parseKey(body)
		_, _ = parseCerts(body)
		var n Node
		if unmarshal(body, &n) == nil {
			_ = n.check()
		}
		var a Allocations
		if unmarshal(body, &a) == nil {
			_ = a.check()
		}
		var tok Token
		if unmarshal(body, &tok) == nil {
			_ = tok.check()
		}
		var p Pending
		_ = unmarshal(body, &p)
		var eps []endpoint
		_ = unmarshal(body, &eps)
	})
}
