package nft

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drawbridge/tunnel"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files")

func gateway() tunnel.Filter {
	return tunnel.Filter{
		Interface: "drawbridge0", Mesh: netip.MustParsePrefix("10.77.0.0/16"), Self: netip.MustParseAddr("10.77.0.1"),
		Gateways: []netip.Addr{netip.MustParseAddr("10.77.0.1")}, Control: []uint16{53, 7946}, Services: []uint16{8080},
		Forward: true, MTU: 1280,
	}
}

func server() tunnel.Filter {
	f := gateway()
	f.Self, f.Forward = netip.MustParseAddr("10.77.0.2"), false
	f.Gateways = []netip.Addr{netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("10.77.0.1")}
	return f
}

func bare() tunnel.Filter {
	f := server()
	f.Gateways, f.Control, f.Services = nil, nil, nil
	return f
}

// dual is a filter with the overlay in IPv6 too.
func dual(f tunnel.Filter) tunnel.Filter {
	f.Mesh6 = tunnel.Mesh6("demo", f.Mesh)
	f.Self6 = tunnel.Addr6(f.Mesh6, f.Self)
	return f
}

// advertising is a server with machines behind it.
func advertising() tunnel.Filter {
	f := server()
	f.Subnets = []netip.Prefix{netip.MustParsePrefix("192.168.20.0/24")}
	return f
}

func TestRuleset(t *testing.T) {
	for name, f := range map[string]tunnel.Filter{
		"gateway": gateway(), "server": server(), "bare": bare(),
		"gateway6": dual(gateway()), "server6": dual(server()), "advertising": advertising(),
	} {
		t.Run(name, func(t *testing.T) {
			got := text(ruleset(f))
			golden := filepath.Join("testdata", name+".nft")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*tunnel.Filter){
		"interface name":   func(f *tunnel.Filter) { f.Interface = strings.Repeat("x", 16) },
		"IPv4 address":     func(f *tunnel.Filter) { f.Self = netip.MustParseAddr("10.78.0.1") },
		"MTU":              func(f *tunnel.Filter) { f.MTU = 40 },
		"outside the mesh": func(f *tunnel.Filter) { f.Gateways = []netip.Addr{netip.MustParseAddr("192.0.2.1")} },
		"IPv6 address":     func(f *tunnel.Filter) { f.Mesh6 = netip.MustParsePrefix("fd00::/64") },
		"subnet 0.0.0.0/0": func(f *tunnel.Filter) { f.Subnets = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"subnet 10.77.4":   func(f *tunnel.Filter) { f.Subnets = []netip.Prefix{netip.MustParsePrefix("10.77.4.0/24")} },
		"no port":          func(f *tunnel.Filter) { f.Services = []uint16{0} },
	} {
		f := gateway()
		spoil(&f)
		if err := New(Options{}).Apply(t.Context(), f); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Apply = %v, want it to name the %s", err, name)
		}
	}
}
