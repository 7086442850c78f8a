package path

import (
	"net/netip"
	"slices"
	"testing"

	"drawbridge/tunnel"
)

func TestBoth(t *testing.T) {
	mesh := netip.MustParsePrefix("10.77.0.0/16")
	six := tunnel.Mesh6("m", mesh)
	pfx := netip.MustParsePrefix
	old := []netip.Prefix{pfx("10.77.0.2/32"), pfx("10.77.0.3/32"), pfx("192.168.20.0/24"), pfx("192.168.21.1/32")}
	peers := []tunnel.Peer{{Key: tunnel.Key{1}, AllowedIPs: old}, {Key: tunnel.Key{2}}}
	Both(netip.Prefix{}, mesh, peers)
	if len(peers[0].AllowedIPs) != 4 {
		t.Errorf("without an IPv6 mesh: %v", peers[0].AllowedIPs)
	}
	Both(six, mesh, peers)
	want := append(slices.Clone(old), netip.PrefixFrom(tunnel.Addr6(six, old[0].Addr()), 128), netip.PrefixFrom(tunnel.Addr6(six, old[1].Addr()), 128))
	if !slices.Equal(peers[0].AllowedIPs, want) || len(peers[1].AllowedIPs) != 0 {
		t.Errorf("got %v, want %v", peers, want)
	}
	if !slices.IsSortedFunc(peers[0].AllowedIPs, tunnel.ComparePrefix) {
		t.Error("not sorted")
	}
}
