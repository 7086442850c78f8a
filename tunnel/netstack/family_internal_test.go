package netstack

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"

	"drawbridge/tunnel"
)

// TestStackRoutes: the stack reaches the mesh and what lies behind peers, in
// both families, and nothing else.
func TestStackRoutes(t *testing.T) {
	c := *relayed
	c.Routes = []netip.Prefix{netip.MustParsePrefix("192.168.20.0/24")}
	tun, err := newTUN(&c, false)
	if err != nil {
		t.Fatal(err)
	}
	defer tun.destroy()
	reaches := func(dst string) bool {
		to := full(netip.AddrPortFrom(netip.MustParseAddr(dst), 1))
		r, err := tun.stack.FindRoute(nicID, tcpip.Address{}, to.Addr, protocolOf(to), false)
		if err == nil {
			r.Release()
		}
		return err == nil
	}
	check := func(want map[string]bool) {
		t.Helper()
		for dst, w := range want {
			if got := reaches(dst); got != w {
				t.Errorf("reaches %s: %v, want %v", dst, got, w)
			}
		}
	}
	check(map[string]bool{"10.86.9.9": true, "fd86::9": true, "192.168.20.7": true, "192.168.21.7": false, "1.1.1.1": false, "2001:db8::1": false})
	tun.route(&tunnel.Config{Mesh: c.Mesh, Mesh6: c.Mesh6, Routes: []netip.Prefix{netip.MustParsePrefix("192.168.21.0/24")}})
	check(map[string]bool{"10.86.9.9": true, "fd86::9": true, "192.168.20.7": false, "192.168.21.7": true})
}
