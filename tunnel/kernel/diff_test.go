package kernel

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"drawbridge/tunnel"
)

// model is the kernel's side: what a device becomes by a step. It fails when a
// prefix that has an owner before and after loses it in between.
type model struct {
	port  int
	key   wgtypes.Key
	peers map[tunnel.Key]*wgtypes.Peer
}

func (m *model) device() *wgtypes.Device {
	d := &wgtypes.Device{PrivateKey: m.key, ListenPort: m.port}
	for _, p := range m.peers {
		d.Peers = append(d.Peers, *p)
	}
	slices.SortFunc(d.Peers, func(a, b wgtypes.Peer) int { return tunnel.Key(a.PublicKey).Compare(tunnel.Key(b.PublicKey)) })
	return d
}

func (m *model) owner(a netip.Prefix) (tunnel.Key, bool) {
	for k, p := range m.peers {
		if slices.Contains(prefixes(p), a) {
			return k, true
		}
	}
	return tunnel.Key{}, false
}

func (m *model) take(c wgtypes.Config, after func()) {
	if c.ListenPort != nil {
		m.port = *c.ListenPort
	}
	if c.PrivateKey != nil {
		m.key = *c.PrivateKey
	}
	if c.ReplacePeers {
		m.peers = map[tunnel.Key]*wgtypes.Peer{}
	}
	for _, p := range c.Peers {
		k := tunnel.Key(p.PublicKey)
		if p.Remove {
			delete(m.peers, k)
			after()
			continue
		}
		h := m.peers[k]
		if h == nil {
			if p.UpdateOnly {
				continue
			}
			h = &wgtypes.Peer{PublicKey: p.PublicKey}
			m.peers[k] = h
		}
		if p.Endpoint != nil {
			h.Endpoint = p.Endpoint
		}
		if p.PersistentKeepaliveInterval != nil {
			h.PersistentKeepaliveInterval = *p.PersistentKeepaliveInterval
		}
		for _, n := range p.AllowedIPs {
			for _, o := range m.peers {
				o.AllowedIPs = slices.DeleteFunc(slices.Clone(o.AllowedIPs), func(x net.IPNet) bool { return x.String() == n.String() })
			}
			h.AllowedIPs = append(h.AllowedIPs, n)
		}
		after()
	}
}

func short(c wgtypes.Config) (out []string) {
	if c.ListenPort != nil {
		out = append(out, fmt.Sprint("port ", *c.ListenPort))
	}
	if c.PrivateKey != nil {
		out = append(out, "key")
	}
	if c.ReplacePeers {
		out = append(out, "replace")
	}
	for _, p := range c.Peers {
		s := fmt.Sprint("peer ", p.PublicKey[0])
		if p.PublicKey == sink {
			s = "sink"
		}
		if p.Remove {
			s += " gone"
		}
		if p.Endpoint != nil {
			s += " at " + p.Endpoint.String()
		}
		for _, a := range p.AllowedIPs {
			s += " +" + a.String()
		}
		if p.PersistentKeepaliveInterval != nil {
			s += " alive " + p.PersistentKeepaliveInterval.String()
		}
		out = append(out, s)
	}
	return out
}

func pfx(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func wished(port uint16, peers ...tunnel.Peer) *tunnel.Config {
	c := &tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1}), ListenPort: port, Peers: peers}
	return c.Normalize()
}

func TestDiff(t *testing.T) {
	e1, e2 := netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("192.0.2.2:51820")
	a := tunnel.Peer{Key: tunnel.Key{1}, Endpoint: e1, AllowedIPs: pfx("10.1.0.2/32"), Keepalive: 25 * time.Second}
	b := tunnel.Peer{Key: tunnel.Key{2}, AllowedIPs: pfx("10.1.0.3/32", "fd00::3/128")}
	with := func(p tunnel.Peer, f func(*tunnel.Peer)) tunnel.Peer { f(&p); return p }
	tests := []struct {
		name       string
		last, next *tunnel.Config
		learned    netip.AddrPort // of both peers
		want       [][]string
	}{
		{name: "unknown state replaces all", next: wished(7, a, b), want: [][]string{
			{"port 7"},
			{"key", "replace", "peer 1 at 192.0.2.1:51820 +10.1.0.2/32 alive 25s", "peer 2 +10.1.0.3/32 +fd00::3/128"},
		}},
		{name: "same wish says nothing", last: wished(7, a, b), next: wished(7, a, b)},
		{name: "port alone", last: wished(7, a), next: wished(8, a), want: [][]string{{"port 8"}}},
		{name: "peer gone", last: wished(7, a, b), next: wished(7, b), want: [][]string{{"peer 1 gone"}}},
		{
			name: "endpoint changed", last: wished(7, a), next: wished(7, with(a, func(p *tunnel.Peer) { p.Endpoint = e2 })),
			want: [][]string{{"peer 1 at 192.0.2.2:51820"}},
		},
		{name: "endpoint withdrawn keeps what was learned", last: wished(7, a), next: wished(7, with(a, func(p *tunnel.Peer) { p.Endpoint = netip.AddrPort{} }))},
		{
			name: "keepalive off", last: wished(7, a), next: wished(7, with(a, func(p *tunnel.Peer) { p.Keepalive = 0 })),
			want: [][]string{{"peer 1 alive 0s"}},
		},
		{
			name: "address moves in one step", last: wished(7, a, b),
			next: wished(7, with(a, func(p *tunnel.Peer) { p.AllowedIPs = nil }), with(b, func(p *tunnel.Peer) { p.AllowedIPs = pfx("10.1.0.2/32", "10.1.0.3/32", "fd00::3/128") })),
			want: [][]string{{"peer 2 +10.1.0.2/32"}},
		},
		{
			name: "address that nobody gets goes by the sink", last: wished(7, a, b),
			next: wished(7, a, with(b, func(p *tunnel.Peer) { p.AllowedIPs = pfx("10.1.0.3/32") })),
			want: [][]string{{"sink +fd00::3/128"}, {"sink gone"}},
		},
		{
			name: "address moves from a leaving peer before that goes", last: wished(7, a, b),
			next: wished(7, with(b, func(p *tunnel.Peer) { p.AllowedIPs = pfx("10.1.0.2/32", "10.1.0.3/32", "fd00::3/128") })),
			want: [][]string{{"peer 2 +10.1.0.2/32"}, {"peer 1 gone"}},
		},
		{
			name: "epoch keeps the learned endpoint and starts a handshake", last: wished(7, b), learned: e2,
			next: wished(7, with(b, func(p *tunnel.Peer) { p.Epoch = 1 })),
			want: [][]string{{"peer 2 gone"}, {"peer 2 at 192.0.2.2:51820 +10.1.0.3/32 +fd00::3/128 alive 1s"}, {"peer 2 alive 0s"}},
		},
		{
			name: "epoch with a new endpoint obeys the wish", last: wished(7, a), learned: e1,
			next: wished(7, with(a, func(p *tunnel.Peer) { p.Epoch, p.Endpoint = 1, e2 })),
			want: [][]string{{"peer 1 gone"}, {"peer 1 at 192.0.2.2:51820 +10.1.0.2/32 alive 25s"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &model{}
			for _, s := range diff(m.device(), nil, orEmpty(tt.last)) {
				m.take(s, func() {})
			}
			for _, p := range m.peers {
				if tt.learned.IsValid() {
					p.Endpoint = udp(tt.learned)
				}
			}
			var got [][]string
			for _, s := range diff(m.device(), tt.last, tt.next) {
				got = append(got, short(s))
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func orEmpty(c *tunnel.Config) *tunnel.Config {
	if c == nil {
		return wished(0)
	}
	return c
}

// TestDiffReachesTheWish goes from any wish to any other: the device ends at
// the wish, no step names a peer twice, and an address that has an owner
// before and after has one all the time (but for those of a new epoch).
func TestDiffReachesTheWish(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := &model{}
	var last *tunnel.Config
	for range 3000 {
		next := random(r)
		keep := map[netip.Prefix]bool{}
		for i := range next.Peers {
			n := &next.Peers[i]
			if last != nil && slices.ContainsFunc(last.Peers, func(o tunnel.Peer) bool { return o.Key == n.Key && o.Epoch != n.Epoch }) {
				continue
			}
			for _, a := range n.AllowedIPs {
				k, ok := m.owner(a)
				again := last != nil && slices.ContainsFunc(next.Peers, func(o tunnel.Peer) bool {
					return o.Key == k && slices.ContainsFunc(last.Peers, func(l tunnel.Peer) bool { return l.Key == k && l.Epoch != o.Epoch })
				})
				keep[a] = ok && !again && last != nil
			}
		}
		for _, s := range diff(m.device(), last, next) {
			seen := map[wgtypes.Key]bool{}
			for _, p := range s.Peers {
				if seen[p.PublicKey] {
					t.Fatalf("a step names a peer twice: %v", short(s))
				}
				seen[p.PublicKey] = true
			}
			m.take(s, func() {
				for a, must := range keep {
					if _, ok := m.owner(a); must && !ok {
						t.Fatalf("%v has no owner in %v", a, short(s))
					}
				}
			})
		}
		if got, want := state(m), stateOf(next); got != want {
			t.Fatalf("device\n%s\nwant\n%s", got, want)
		}
		if again := diff(m.device(), next, next); len(again) > 0 {
			t.Fatalf("not the same the second time: %v", short(again[0]))
		}
		last = next
		if r.IntN(50) == 0 {
			last = nil
		}
	}
}

func random(r *rand.Rand) *tunnel.Config {
	c := &tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{byte(r.IntN(2)) + 1}), ListenPort: uint16(r.IntN(2) + 1)}
	for k := range byte(5) {
		if r.IntN(4) > 0 {
			c.Peers = append(c.Peers, tunnel.Peer{Key: tunnel.Key{k + 1}, Epoch: uint64(r.IntN(8) / 7), Keepalive: time.Duration(r.IntN(2)) * 25 * time.Second})
		}
	}
	for a := range byte(8) {
		if i := r.IntN(7); i < len(c.Peers) {
			c.Peers[i].AllowedIPs = append(c.Peers[i].AllowedIPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, a}), 32))
		}
	}
	return c.Normalize()
}

func state(m *model) string {
	s := fmt.Sprintln(m.port, m.key)
	for _, p := range m.device().Peers {
		ps := prefixes(&p)
		slices.SortFunc(ps, tunnel.ComparePrefix)
		s += fmt.Sprintln(p.PublicKey, p.PersistentKeepaliveInterval, ps)
	}
	return s
}

func stateOf(c *tunnel.Config) string {
	s := fmt.Sprintln(c.ListenPort, reveal(c.PrivateKey))
	for _, p := range c.Peers {
		s += fmt.Sprintln(wgtypes.Key(p.Key), p.Keepalive, p.AllowedIPs)
	}
	return s
}

func TestMessages(t *testing.T) {
	port := 7
	s := wgtypes.Config{ListenPort: &port, ReplacePeers: true}
	for i := range 70 {
		p := wgtypes.PeerConfig{PublicKey: wgtypes.Key{byte(i)}}
		if i == 40 {
			p.AllowedIPs = make([]net.IPNet, 300)
		}
		s.Peers = append(s.Peers, p)
	}
	var sizes []int
	for i, m := range messages(s) {
		sizes = append(sizes, len(m.Peers))
		if first := i == 0; m.ReplacePeers != first || (m.ListenPort != nil) != first {
			t.Errorf("message %d: replace %v, port %v", i, m.ReplacePeers, m.ListenPort)
		}
	}
	if d := cmp.Diff([]int{32, 8, 1, 29}, sizes); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got := messages(wgtypes.Config{ReplacePeers: true}); len(got) != 1 {
		t.Errorf("%d messages for no peers, want 1", len(got))
	}
}
