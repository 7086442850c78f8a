package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery"
)

// TestOlderVersionsAreRead has the files as the first version wrote them.
func TestOlderVersionsAreRead(t *testing.T) {
	d := newDir(t)
	body := `{"version":1,"id":"0011223344556677","public":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","site":"idc","role":"server",
		"created":"2026-03-01T12:00:00Z","expires":"2026-03-01T13:00:00Z","uses":2,"revoked":false,
		"redeemed":[{"node":"aa","name":"gpu-1","at":"2026-03-01T12:00:00Z","leaf":"AQI="}]}`
	os.Mkdir(filepath.Join(d.Path(), dirTokens), 0o700)
	if err := d.write(filepath.Join(dirTokens, "0011223344556677.json"), []byte(body)); err != nil {
		t.Fatal(err)
	}
	tok, err := d.Token("0011223344556677")
	if err != nil || tok.Uses != 2 || len(tok.Redeemed) != 1 || tok.Names != nil || tok.Approval {
		t.Errorf("token: %+v, %v", tok, err)
	}
	ledger := `{"version":1,"block":"10.86.0.0/20","addrs":[{"addr":"10.86.0.2","node":"bb","name":"gpu-1","site":"idc","role":"server",
		"since":"2026-03-01T12:00:00Z"}],"blocks":[{"block":"10.86.0.0/20","node":"aa","name":"gw-a","since":"2026-03-01T12:00:00Z"}]}`
	if err := d.write(fileAllocations, []byte(ledger)); err != nil {
		t.Fatal(err)
	}
	a, err := d.Allocations()
	if err != nil || len(a.Addrs) != 1 || a.Addrs[0].Ephemeral || a.Renewed != nil {
		t.Errorf("ledger: %+v, %v", a, err)
	}
	for _, newer := range []string{`{"version":3,"id":"0011223344556677"}`, `{"version":0,"id":"0011223344556677"}`} {
		if err := d.write(filepath.Join(dirTokens, "0011223344556677.json"), []byte(newer)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Token("0011223344556677"); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", newer, err)
		}
	}
}

// TestTokenLimitsThatCannotBeRead must not count as no limits.
func TestTokenLimitsThatCannotBeRead(t *testing.T) {
	d := newDir(t)
	for name, change := range map[string]func(*Token){
		"pattern":       func(k *Token) { k.Names = []string{"gpu-["} },
		"empty pattern": func(k *Token) { k.Names = []string{""} },
		"many names":    func(k *Token) { k.Names = make([]string, MaxTokenNames+1) },
		"source":        func(k *Token) { k.Sources = []netip.Prefix{{}} },
		"host bits":     func(k *Token) { k.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")} },
		"many sources":  func(k *Token) { k.Sources = make([]netip.Prefix, MaxTokenSources+1) },
		"no key":        func(k *Token) { k.Public = nil },
		"overspent":     func(k *Token) { k.Uses = 0 },
	} {
		tok := testToken
		change(&tok)
		if err := d.SetToken(tok); err == nil {
			t.Errorf("%s: written", name)
		}
		tok.Version = tokenVersion
		os.MkdirAll(filepath.Join(d.Path(), dirTokens), 0o700)
		if err := d.writeJSON(filepath.Join(dirTokens, tok.ID+".json"), tok); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Token(tok.ID); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
	if _, err := path.Match("gpu-[", ""); err == nil {
		t.Error("path.Match finds nothing wrong with a bad pattern any more")
	}
}

func TestPendingIsBounded(t *testing.T) {
	d := newDir(t)
	for i := range MaxPending {
		p := testPending
		p.Node = discovery.NodeID(fmt.Sprintf("%032x", i))
		p.Since = testTime.Add(-time.Duration(i) * time.Second)
		if err := d.SetPending(p); err != nil {
			t.Fatal(err)
		}
	}
	p := testPending
	if err := d.SetPending(p); !errors.Is(err, ErrManyPending) {
		t.Errorf("one too many: %v", err)
	}
	p.Node = discovery.NodeID(fmt.Sprintf("%032x", 7))
	p.By = "user bob"
	if err := d.SetPending(p); err != nil {
		t.Errorf("one that waits already: %v", err)
	}
	list, err := d.ListPending()
	if err != nil || len(list) != MaxPending || !list[0].Since.Before(list[1].Since) {
		t.Errorf("%d, %v", len(list), err)
	}
	if err := errors.Join(d.RemovePending(p.Node, p.Token), d.RemovePending(p.Node, p.Token), d.RemovePending("../x", "")); err != nil {
		t.Error(err)
	}
	if err := d.SetPending(testPending); err != nil {
		t.Errorf("into the place that got free: %v", err)
	}
}

func TestPendingOfSeveralTokensAndDamaged(t *testing.T) {
	d := newDir(t)
	a, b, c := testPending, testPending, testPending
	b.Token, b.Since = "8899aabbccddeeff", testTime.Add(time.Second)
	c.Token, c.Since = "", testTime.Add(2*time.Second)
	for _, p := range []Pending{a, b, c} {
		if err := d.SetPending(p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.PendingOf(c.Node, "")
	if diff := cmp.Diff(c, got, compare); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	os.Truncate(filepath.Join(d.Path(), dirPending, string(b.Node)+"-"+b.Token+".json"), 30)
	list, err := d.ListPending()
	if !errors.Is(err, ErrCorrupt) || len(list) != 2 || list[0].Token != a.Token || list[1].Token != "" {
		t.Errorf("%v, %v", list, err)
	}
	// A damaged one holds its use all the same.
	for token, want := range map[string]int{a.Token: 1, b.Token: 1, "1111111111111111": 0} {
		if nodes, err := d.Reserved(token); err != nil || len(nodes) != want || want == 1 && nodes[0] != a.Node {
			t.Errorf("%s is held by %v, %v", token, nodes, err)
		}
	}
	for _, bad := range []Pending{{Node: "../../x"}, {Node: a.Node, Token: "../x"}, {Node: a.Node, Token: a.Token}, {Node: a.Node, WireGuard: a.WireGuard, Issuer: []byte{1}}} {
		if err := d.SetPending(bad); err == nil {
			t.Errorf("written: %+v", bad)
		}
	}
	if _, err := d.PendingOf("../../etc/passwd", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an id that is a path: %v", err)
	}
}

func TestInterrupt(t *testing.T) {
	d := newDir(t)
	if err := d.SetMemory([]byte("old")); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for _, tt := range []struct {
		done bool
		want string
	}{{false, "old"}, {true, "new"}} {
		d.Interrupt(func(name string, done bool) error {
			if name == fileMemory && done == tt.done {
				return stop
			}
			return nil
		})
		if err := d.SetMemory([]byte("new")); !errors.Is(err, stop) {
			t.Errorf("done %v: %v", tt.done, err)
		}
		if b, err := d.Memory(); err != nil || string(b) != tt.want {
			t.Errorf("done %v: %s, %v", tt.done, b, err)
		}
	}
}
