package link

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"drawbridge/tunnel"
)

func TestClash(t *testing.T) {
	mesh := netip.MustParsePrefix("10.77.0.0/16")
	tests := []struct{ name, dst, iface, want string }{
		{"default route", "0.0.0.0/0", "eth0", ""},
		{"elsewhere", "10.78.0.0/16", "eth0", ""},
		{"our own", "10.77.0.0/16", "drawbridge0", ""},
		{"inside", "10.77.3.0/24", "docker0", "10.77.3.0/24 is routed to docker0"},
		{"around", "10.0.0.0/8", "tailscale0", "10.0.0.0/8 is routed to tailscale0"},
		{"same", "10.77.0.0/16", "eth1", "10.77.0.0/16 is routed to eth1"},
		{"half of a default route", "0.0.0.0/1", "vpn0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := clash(mesh, "drawbridge0", []route{{netip.MustParsePrefix(tt.dst), tt.iface}})
			if tt.want == "" && err != nil {
				t.Fatal(err)
			}
			if tt.want != "" && (!errors.Is(err, tunnel.ErrPrefixClash) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("clash = %v, want %q", err, tt.want)
			}
		})
	}
}
