package link

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drawbridge/tunnel"
)

func pfx(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestWanted(t *testing.T) {
	c := &tunnel.Config{
		Addr: netip.MustParseAddr("10.77.0.1"), Mesh: netip.MustParsePrefix("10.77.0.0/16"),
		Addr6: netip.MustParseAddr("fd77::1"), Mesh6: netip.MustParsePrefix("fd77::/64"),
		Routes: pfx("192.168.20.0/24"), MTU: 1420,
		Peers: []tunnel.Peer{
			{Key: tunnel.Key{1}, MTU: 1200, AllowedIPs: pfx("10.77.0.2/32", "fd77::2/128", "192.168.20.0/24")},
			{Key: tunnel.Key{2}, MTU: 9000, AllowedIPs: pfx("10.77.0.3/32")},
			{Key: tunnel.Key{3}, AllowedIPs: pfx("10.77.0.4/32")},
			{Key: tunnel.Key{4}, MTU: 1300, AllowedIPs: pfx("0.0.0.0/0", "1.1.1.1/32")},
		},
	}
	var got []string
	for _, e := range wanted(StateOf("x", c)) {
		s := e.dst.String() + " from " + e.src.String()
		if e.mtu != 0 {
			s += " mtu " + map[int]string{1200: "1200", 1280: "1280"}[e.mtu]
		}
		got = append(got, s)
	}
	want := []string{
		"10.77.0.0/16 from 10.77.0.1",
		"10.77.0.2/32 from 10.77.0.1 mtu 1200",
		"192.168.20.0/24 from 10.77.0.1 mtu 1200",
		"fd77::/64 from fd77::1",
		"fd77::2/128 from fd77::1 mtu 1280", // the least that IPv6 may see
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestDiffLeavesWhatIsNotOurs(t *testing.T) {
	mesh, other := pfx("10.77.0.0/16")[0], pfx("10.99.0.0/16")[0]
	want := []entry{{dst: mesh, ours: true}}
	add, change, del := diff(want, []entry{{dst: other}, {dst: mesh, mtu: 1300, ours: true}, {dst: pfx("10.98.0.0/16")[0], ours: true}})
	if len(add) != 0 || len(change) != 1 || change[0].dst != mesh || len(del) != 1 || del[0].dst.String() != "10.98.0.0/16" {
		t.Errorf("add %v, change %v, remove %v", add, change, del)
	}
	if add, change, del := diff(want, want); len(add)+len(change)+len(del) != 0 {
		t.Error("the same state again is a change")
	}
}
