package agent_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A floor says what its rooms may import of the house, and what nobody there
// may touch. Packages are matched with path.Match against their path below the
// module, in the order of the table; the first row wins.
type floor struct {
	name  string
	rooms []string
	house []string // allowed imports of our own
	never []string // forbidden imports of others, by prefix
}

var effects = []string{
	"os", "os/exec", "log", "log/slog", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "sync",
	"github.com/aws/", "github.com/hashicorp/", "github.com/vishvananda/", "github.com/google/nftables", "golang.zx2c4.com/", "gvisor.dev/",
}

var floors = []floor{
	{
		name:  "0 dictionaries",
		rooms: []string{"tunnel", "discovery"},
		never: []string{"os", "net/http", "github.com/", "golang.org/x/", "golang.zx2c4.com/", "gvisor.dev/", "sync"},
	},
	{
		name:  "1 rules",
		rooms: []string{"tunnel/path", "tunnel/mtu", "agent/verdict", "agent/weight"},
		house: []string{"tunnel", "discovery"},
		never: effects,
	},
	{
		name:  "1 rules, joined",
		rooms: []string{"agent/decide"},
		house: []string{"tunnel", "discovery", "tunnel/path", "tunnel/mtu", "agent/verdict", "agent/weight"},
		never: effects,
	},
	{
		name:  "2 forms and tools",
		rooms: []string{"agent/config", "agent/reconcile", "agent/statedir", "agent/pki", "agent/history"},
		house: []string{"tunnel", "discovery"},
		never: []string{"net/http", "github.com/aws/", "github.com/hashicorp/", "golang.zx2c4.com/", "gvisor.dev/"},
	},
	{
		name:  "2 tools, joined",
		rooms: []string{"agent/rootca"},
		house: []string{"discovery", "agent/pki", "agent/statedir", "agent/history"},
		never: []string{"net/http", "github.com/aws/", "github.com/hashicorp/", "golang.zx2c4.com/", "gvisor.dev/"},
	},
	{
		name:  "test rooms",
		rooms: []string{"tunnel/internal/nstest"},
		house: []string{"tunnel", "tunnel/internal/*", "tunnel/tunneltest"},
	},
	{
		name:  "3 ears and hands",
		rooms: []string{"tunnel/stream"},
		house: []string{"tunnel"},
		never: []string{"github.com/", "golang.org/x/", "golang.zx2c4.com/", "gvisor.dev/"},
	},
	{
		name:  "3 ears and hands",
		rooms: []string{"tunnel/kernel", "tunnel/userspace", "tunnel/netstack", "tunnel/nft", "tunnel/conflict", "tunnel/internal/*"},
		house: []string{"tunnel", "tunnel/internal/*"},
		never: []string{"github.com/aws/", "github.com/hashicorp/"},
	},
	{
		name:  "3 ears and hands",
		rooms: []string{"discovery/gossip", "discovery/probe", "discovery/check", "discovery/elb", "discovery/vpc", "discovery/awsid"},
		house: []string{"discovery", "discovery/internal/awsapi"},
		never: []string{"golang.zx2c4.com/", "gvisor.dev/", "github.com/vishvananda/"},
	},
	{
		name:  "3 ears and hands",
		rooms: []string{"agent/enroll"},
		house: []string{"tunnel", "discovery", "agent/pki", "agent/statedir", "agent/history", "agent/rootca"},
		never: []string{"github.com/"},
	},
	{
		name:  "tools of the AWS hands",
		rooms: []string{"discovery/internal/*"},
		house: []string{"discovery"},
	},
	{
		name:  "test rooms",
		rooms: []string{"tunnel/tunneltest"},
		house: []string{"tunnel", "tunnel/internal/*"},
	},
	{
		name:  "test rooms",
		rooms: []string{"discovery/cloudtest"},
		house: []string{"discovery"},
	},
	{
		name:  "4 desk",
		rooms: []string{"agent/world", "agent/api"},
		house: []string{"tunnel", "discovery", "agent/decide", "agent/verdict", "agent/weight", "agent/reconcile"},
		never: []string{"github.com/aws/", "github.com/hashicorp/", "golang.zx2c4.com/", "gvisor.dev/"},
	},
	{
		name:  "5 house",
		rooms: []string{"agent"},
		house: []string{"tunnel", "tunnel/*", "discovery", "discovery/*", "agent/*"},
		never: []string{"github.com/spf13/"},
	},
	{
		name:  "6 street",
		rooms: []string{"deploy/lab"},
		// The backends and the filter, because it measures them without an agent.
		house: []string{"agent/api", "agent/config", "agent/enroll", "agent/pki", "discovery", "discovery/cloudtest", "tunnel", "tunnel/netstack", "tunnel/nft", "tunnel/userspace"},
	},
	{
		name:  "6 street",
		rooms: []string{"cmd/drawbridge"},
		house: []string{"agent", "agent/api", "agent/config", "agent/pki", "agent/enroll", "agent/statedir", "agent/history", "agent/rootca", "discovery", "deploy/lab"},
	},
}

// TestFloors holds the layout of the house: who may import whom. Architecture
// that is not executed is decoration.
func TestFloors(t *testing.T) {
	for _, p := range packages(t) {
		room := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "drawbridge"), "/")
		f := floorOf(room)
		if f == nil {
			t.Errorf("%s stands on no floor: add it to the table, with its reason", p.ImportPath)
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment: doc.go says what the room promises", p.ImportPath)
		}
		for _, imp := range p.Imports {
			if ours, ok := strings.CutPrefix(imp, "drawbridge/"); ok {
				if !matches(f.house, ours) {
					t.Errorf("floor %s: %s may not import %s", f.name, room, ours)
				}
				continue
			}
			if slices.ContainsFunc(f.never, func(n string) bool { return forbids(n, imp) }) {
				t.Errorf("floor %s: %s may not import %s", f.name, room, imp)
			}
		}
	}
}

func floorOf(room string) *floor {
	for i := range floors {
		if matches(floors[i].rooms, room) {
			return &floors[i]
		}
	}
	return nil
}

func matches(patterns []string, room string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, room)
		return ok && err == nil
	})
}

// forbids: a name ending in a slash is a prefix, any other is one package.
func forbids(name, imp string) bool {
	if strings.HasSuffix(name, "/") {
		return strings.HasPrefix(imp, name)
	}
	return imp == name
}

type goPackage struct {
	ImportPath string
	Doc        string
	Imports    []string
}

// packages lists every package of the module with its direct, non-test imports.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports", "drawbridge/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("go list found only %d packages", len(list))
	}
	return list
}

// TestRulesArePure looks where imports cannot: rules read no clock and start
// nothing.
func TestRulesArePure(t *testing.T) {
	for _, room := range []string{"../tunnel/path", "../tunnel/mtu", "verdict", "weight", "decide"} {
		for name, src := range sources(t, room) {
			for _, word := range []string{"time.Now(", "time.Since(", "time.Until(", "time.After(", "time.Sleep(", "go func", "\tgo "} {
				if strings.Contains(src, word) {
					t.Errorf("%s uses %q: a rule gets now as an argument and starts nothing", name, strings.TrimSpace(word))
				}
			}
		}
	}
}

// sources reads the non-test Go files of a folder.
func sources(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	out := map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	return out
}
