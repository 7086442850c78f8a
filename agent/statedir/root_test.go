package statedir

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fillRoot writes what an offline root has.
func fillRoot(t *testing.T, d *Dir) {
	t.Helper()
	blocks := Allocations{Blocks: []Grant{{Block: netip.MustParsePrefix("10.86.0.0/20"), Node: "aa", Name: "gw-a", Since: testTime}}}
	if err := errors.Join(d.SetRootKey(testKey(3)), d.SetRoots([][]byte{{1}}), d.SetAllocations(blocks)); err != nil {
		t.Fatal(err)
	}
}

func TestRootOnly(t *testing.T) {
	d := newDir(t)
	if err := d.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := d.CommitRoot(); err == nil || !strings.Contains(err.Error(), fileRootKey) {
		t.Errorf("finished with nothing in it: %v", err)
	}
	fillRoot(t, d)
	if d.RootOnly() {
		t.Error("a root before it is finished")
	}
	if err := d.CommitRoot(); err != nil || !d.RootOnly() || d.Joined() {
		t.Fatalf("not an offline root: %v", err)
	}
	// Neither the next init nor what it clears touches it.
	if err := d.Begin(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "offline mesh root") {
		t.Errorf("Begin: %v", err)
	}
	if err := d.Abandon(); err != nil || !d.RootOnly() {
		t.Errorf("Abandon: %v", err)
	}
	// It is known as ours though others may enter, and closed.
	os.Remove(filepath.Join(d.Path(), lockAgent))
	os.WriteFile(filepath.Join(d.Path(), "README"), nil, 0o600)
	os.Chmod(d.Path(), 0o755)
	if _, err := Open(d.Path()); err != nil {
		t.Errorf("Open: %v", err)
	}
	if a, err := d.Allocations(); err != nil || len(a.Blocks) != 1 || a.Block.IsValid() {
		t.Errorf("ledger %+v, %v", a, err)
	}
}

func TestRootOfAGatewayIsNotOffline(t *testing.T) {
	d := newDir(t)
	fillRoot(t, d)
	if err := d.SetIdentityKey(testKey(1)); err != nil {
		t.Fatal(err)
	}
	if d.RootOnly() {
		t.Error("a gateway whose node file is lost")
	}
}

func TestAbandonForgetsRoots(t *testing.T) {
	d := newDir(t)
	if err := d.Begin(); err != nil {
		t.Fatal(err)
	}
	fillRoot(t, d)
	err := errors.Join(d.SetNextRootKey(testKey(4)), d.SetOldRootKey(testKey(5)), d.SetRenewer([]byte{1}), d.SetNotices(nil), d.Abandon())
	if left, _ := os.ReadDir(d.Path()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestBeginKeepsRootKeys(t *testing.T) {
	for name, set := range map[string]func(*Dir) error{
		fileNextRootKey: func(d *Dir) error { return d.SetNextRootKey(testKey(4)) },
		fileOldRootKey:  func(d *Dir) error { return d.SetOldRootKey(testKey(5)) },
	} {
		d := newDir(t)
		if err := set(d); err != nil {
			t.Fatal(err)
		}
		if err := d.Begin(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), name) {
			t.Errorf("Begin over %s: %v", name, err)
		}
	}
}

func TestRootKeysGo(t *testing.T) {
	d := newDir(t)
	for name, f := range map[string][2]func() error{
		fileRootKey:     {func() error { return d.SetRootKey(testKey(3)) }, d.RemoveRootKey},
		fileNextRootKey: {func() error { return d.SetNextRootKey(testKey(4)) }, d.RemoveNextRootKey},
		fileOldRootKey:  {func() error { return d.SetOldRootKey(testKey(5)) }, d.RemoveOldRootKey},
	} {
		if err := errors.Join(f[0](), f[1](), f[1]()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(d.Path(), name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

func TestLedgerOfTheFirstVersion(t *testing.T) {
	d := newDir(t)
	body := `{"version":1,"block":"10.86.0.0/20","addrs":[{"addr":"10.86.0.1","node":"aa","name":"gw-a","site":"aws","role":"gateway","since":"2026-03-01T12:00:00Z"}],` +
		`"blocks":[{"block":"10.86.0.0/20","node":"aa","name":"gw-a","since":"2026-03-01T12:00:00Z"}]}`
	if err := d.write(fileAllocations, []byte(body)); err != nil {
		t.Fatal(err)
	}
	a, err := d.Allocations()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetAllocations(a); err != nil {
		t.Fatal(err)
	}
	again, err := d.Allocations()
	if err != nil || again.Version != 2 {
		t.Fatalf("version %d, %v", again.Version, err)
	}
	a.Version = 2
	if diff := cmp.Diff(a, again, compare); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
	noBlock := testLedger
	noBlock.Block = netip.Prefix{}
	if err := d.SetAllocations(noBlock); err == nil {
		t.Error("addresses without a block were written")
	}
}
