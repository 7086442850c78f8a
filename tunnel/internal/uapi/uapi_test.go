package uapi

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drawbridge/tunnel"
)

func key(b byte) (k tunnel.Key) { k[0] = b; return k }

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func wish(port uint16, peers ...tunnel.Peer) *tunnel.Config {
	c := &tunnel.Config{
		PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1}), ListenPort: port,
		Addr: netip.MustParseAddr("10.1.0.1"), Mesh: netip.MustParsePrefix("10.1.0.0/16"),
		Peers: peers,
	}
	return c.Normalize()
}

// short makes expected texts readable: keys become k1, k2, ...
func short(s string) string {
	for b := range byte(9) {
		s = strings.ReplaceAll(s, key(b).Hex(), "k"+string('0'+b))
	}
	return s
}

func TestSet(t *testing.T) {
	e1, e2 := netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("192.0.2.2:51820")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(e1.Addr().As16()), e1.Port())
	a := tunnel.Peer{Key: key(1), Endpoint: e1, AllowedIPs: prefixes("10.1.0.2/32"), Keepalive: 25 * time.Second}
	b := tunnel.Peer{Key: key(2), AllowedIPs: prefixes("10.1.0.3/32")}
	with := func(p tunnel.Peer, f func(*tunnel.Peer)) tunnel.Peer { f(&p); return p }
	tests := []struct {
		name       string
		last, next *tunnel.Config
		learned    netip.AddrPort
		want       string
	}{
		{name: "unknown state replaces all", next: wish(7, a, b), want: "listen_port=7\nprivate_key=k1\nreplace_peers=true\n" +
			"public_key=k1\nendpoint=192.0.2.1:51820\nallowed_ip=10.1.0.2/32\npersistent_keepalive_interval=25\n" +
			"public_key=k2\nallowed_ip=10.1.0.3/32\n"},
		{name: "same wish says nothing", last: wish(7, a, b), next: wish(7, a, b)},
		{name: "port alone", last: wish(7, a), next: wish(8, a), want: "listen_port=8\n"},
		{name: "peer gone", last: wish(7, a, b), next: wish(7, b), want: "public_key=k1\nremove=true\n"},
		{
			name: "endpoint changed", last: wish(7, a), next: wish(7, with(a, func(p *tunnel.Peer) { p.Endpoint = e2 })),
			want: "public_key=k1\nendpoint=192.0.2.2:51820\n",
		},
		{name: "endpoint withdrawn keeps what was learned", last: wish(7, a), next: wish(7, with(a, func(p *tunnel.Peer) { p.Endpoint = netip.AddrPort{} }))},
		{
			name: "mapped endpoint", last: wish(7), next: wish(7, tunnel.Peer{Key: key(1), Endpoint: mapped}),
			want: "public_key=k1\nendpoint=192.0.2.1:51820\n",
		},
		{
			name: "keepalive off", last: wish(7, a), next: wish(7, with(a, func(p *tunnel.Peer) { p.Keepalive = 0 })),
			want: "public_key=k1\npersistent_keepalive_interval=0\n",
		},
		{
			name: "address moves to a living peer: first given, then taken",
			last: wish(7, a, b), next: wish(7, with(a, func(p *tunnel.Peer) { p.AllowedIPs = nil }), with(b, func(p *tunnel.Peer) { p.AllowedIPs = prefixes("10.1.0.2/32", "10.1.0.3/32") })),
			want: "public_key=k2\nallowed_ip=10.1.0.2/32\npublic_key=k1\nallowed_ip=-10.1.0.2/32\n",
		},
		{
			name: "address moves from a leaving peer: given before the removal",
			last: wish(7, a, b), next: wish(7, with(b, func(p *tunnel.Peer) { p.AllowedIPs = prefixes("10.1.0.2/32", "10.1.0.3/32") })),
			want: "public_key=k2\nallowed_ip=10.1.0.2/32\npublic_key=k1\nremove=true\n",
		},
		{
			name: "epoch keeps the learned endpoint", last: wish(7, a), next: wish(7, with(a, func(p *tunnel.Peer) { p.Epoch = 1 })), learned: e2,
			want: "public_key=k1\nremove=true\npublic_key=k1\nendpoint=192.0.2.2:51820\nallowed_ip=10.1.0.2/32\npersistent_keepalive_interval=25\n",
		},
		{
			name: "epoch with a new endpoint obeys the wish", last: wish(7, b), learned: e2,
			next: wish(7, with(b, func(p *tunnel.Peer) { p.Epoch, p.Endpoint = 1, e1 })),
			want: "public_key=k2\nremove=true\npublic_key=k2\nendpoint=192.0.2.1:51820\nallowed_ip=10.1.0.3/32\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Set(tt.last, tt.next, func(tunnel.Key) netip.AddrPort { return tt.learned })
			if diff := cmp.Diff(tt.want, short(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAgain(t *testing.T) {
	a, b := tunnel.Peer{Key: key(1)}, tunnel.Peer{Key: key(2), Epoch: 3}
	last, next := wish(7, a, b), wish(7, a, tunnel.Peer{Key: key(2), Epoch: 4}, tunnel.Peer{Key: key(3), Epoch: 1})
	if diff := cmp.Diff([]tunnel.Key{key(2)}, Again(last, next)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := Again(nil, next); got != nil {
		t.Errorf("Again from nothing = %v, want none", got)
	}
}

func six(change func(*tunnel.Config)) *tunnel.Config {
	c := wish(0)
	c.Addr6, c.Mesh6 = netip.MustParseAddr("fd77::1"), netip.MustParsePrefix("fd77::/64")
	change(c)
	return c
}

func TestCheck(t *testing.T) {
	own, err := tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1}).Public()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		c    *tunnel.Config
		want string // part of the error; "" accepts
	}{
		{"sound", wish(0, tunnel.Peer{Key: key(1), AllowedIPs: prefixes("10.1.0.2/32")}), ""},
		{"twice the same peer", wish(0, tunnel.Peer{Key: key(1)}, tunnel.Peer{Key: key(1)}), "stands twice"},
		{"address at two peers", wish(0, tunnel.Peer{Key: key(1), AllowedIPs: prefixes("10.1.0.2/32")},
			tunnel.Peer{Key: key(2), AllowedIPs: prefixes("10.1.0.2/32")}), "stands at two peers"},
		{"self", wish(0, tunnel.Peer{Key: own}), "this node itself"},
		{"no key", wish(0, tunnel.Peer{}), "has no key"},
		{"odd keepalive", wish(0, tunnel.Peer{Key: key(1), Keepalive: time.Millisecond}), "whole seconds"},
		{"host bits", wish(0, tunnel.Peer{Key: key(1), AllowedIPs: prefixes("10.1.0.2/24")}), "not a network prefix"},
		{"no private key", &tunnel.Config{}, "no private key"},
		{"both families", six(func(*tunnel.Config) {}), ""},
		{"IPv6 without its prefix", six(func(c *tunnel.Config) { c.Mesh6 = netip.Prefix{} }), "not in the IPv6 mesh prefix"},
		{"IPv6 outside", six(func(c *tunnel.Config) { c.Addr6 = netip.MustParseAddr("fd78::1") }), "not in the IPv6 mesh prefix"},
		{"IPv4 as IPv6", six(func(c *tunnel.Config) { c.Addr6, c.Mesh6 = c.Addr, c.Mesh }), "not in the IPv6 mesh prefix"},
		{"route", six(func(c *tunnel.Config) { c.Routes = prefixes("192.168.20.0/24", "fd20::/64") }), ""},
		{"route with host bits", six(func(c *tunnel.Config) { c.Routes = prefixes("192.168.20.1/24") }), "not a network prefix"},
		{"default route", six(func(c *tunnel.Config) { c.Routes = prefixes("::/0") }), "default route"},
		{"route in the mesh", six(func(c *tunnel.Config) { c.Routes = prefixes("10.1.9.0/24") }), "overlaps the mesh"},
		{"route in the IPv6 mesh", six(func(c *tunnel.Config) { c.Routes = prefixes("fd77::/32") }), "overlaps the mesh"},
		{"odd MTU of a peer", six(func(c *tunnel.Config) { c.Peers = []tunnel.Peer{{Key: key(1), MTU: 99}} }), "MTU 99"},
		{"address outside", &tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1}), Addr: netip.MustParseAddr("10.2.0.1"), Mesh: netip.MustParsePrefix("10.1.0.0/16")}, "outside the mesh"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.c)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Check = %v, want %q", err, tt.want)
			}
		})
	}
}

const sample = "private_key=0100000000000000000000000000000000000000000000000000000000000000\nlisten_port=51820\n" +
	"public_key=0200000000000000000000000000000000000000000000000000000000000000\nprotocol_version=1\n" +
	"last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n" +
	"public_key=0100000000000000000000000000000000000000000000000000000000000000\nendpoint=192.0.2.1:9\n" +
	"last_handshake_time_sec=5\nlast_handshake_time_nsec=6\ntx_bytes=7\nrx_bytes=8\nallowed_ip=10.1.0.2/32\nfuture=1\n\n"

func TestGet(t *testing.T) {
	port, peers, err := Get(sample)
	if err != nil {
		t.Fatal(err)
	}
	want := []tunnel.PeerStatus{
		{Key: key(1), Endpoint: netip.MustParseAddrPort("192.0.2.1:9"), LastHandshake: time.Unix(5, 6), TxBytes: 7, RxBytes: 8},
		{Key: key(2)},
	}
	if diff := cmp.Diff(want, peers, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || port != 51820 {
		t.Errorf("port %d, (-want +got)\n%s", port, diff)
	}
}

func TestGetRefuses(t *testing.T) {
	for _, s := range []string{
		"listen_port=70000\n", "public_key=zz\n", "nonsense\n", "errno=5\n", strings.Repeat("x", maxLine+1),
		"public_key=" + key(1).Hex() + "\nlast_handshake_time_sec=-1\n", "public_key=" + key(1).Hex() + "\nendpoint=x\n",
	} {
		if _, _, err := Get(s); err == nil {
			t.Errorf("Get(%.40q) accepted", s)
		}
	}
}

func FuzzGet(f *testing.F) {
	f.Add(sample)
	f.Add("listen_port=1\nerrno=0\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		_, peers, err := Get(s)
		if err != nil && peers != nil {
			t.Error("peers beside an error")
		}
	})
}
