package path

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

func node(id string, role discovery.Role, n byte) Node {
	return Node{ID: discovery.NodeID(id), Role: role, Key: tunnel.Key{n}, Addr: netip.AddrFrom4([4]byte{10, 77, 0, n}), Living: role == discovery.RoleGateway}
}

func mesh() []Node {
	return []Node{
		node("a", discovery.RoleGateway, 1), node("b", discovery.RoleGateway, 2),
		node("x", discovery.RoleServer, 3), node("y", discovery.RoleServer, 4), node("z", discovery.RoleServer, 5),
	}
}

// peersOf are the peers of one node of the mesh.
func peersOf(nodes []Node, id string, dialable bool) []tunnel.Peer {
	i := slices.IndexFunc(nodes, func(n Node) bool { return string(n.ID) == id })
	rest := slices.Delete(slices.Clone(nodes), i, i+1)
	return Peers(Self{ID: nodes[i].ID, Role: nodes[i].Role, Addr: nodes[i].Addr, Dialable: dialable}, rest)
}

func allowed(peers []tunnel.Peer, n byte) (out []byte) {
	for _, p := range peers {
		if p.Key == (tunnel.Key{n}) {
			for _, a := range p.AllowedIPs {
				out = append(out, a.Addr().As4()[3])
			}
		}
	}
	return out
}

func TestGatewayPeersWithEveryone(t *testing.T) {
	peers := peersOf(mesh(), "a", true)
	if len(peers) != 4 {
		t.Fatalf("%d peers, want 4", len(peers))
	}
	for n := byte(2); n <= 5; n++ {
		if got := allowed(peers, n); !slices.Equal(got, []byte{n}) {
			t.Errorf("peer %d may use %v", n, got)
		}
	}
	for _, p := range peers {
		if p.Keepalive != 0 {
			t.Errorf("a dialable node keeps %x alive", p.Key[0])
		}
	}
}

func TestServerReachesServersThroughTheRelay(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func(n []Node)
		via   byte
	}{
		{"the lowest gateway", func([]Node) {}, 1},
		{"the living one", func(n []Node) { n[0].Living = false }, 2},
		{"the one that stays", func(n []Node) { n[0].Draining = true }, 2},
		{"draining is better than dead", func(n []Node) { n[0].Draining, n[1].Living = true, false }, 1},
		{"none lives: the lowest known", func(n []Node) { n[0].Living, n[1].Living = false, false }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := mesh()
			c.state(nodes)
			peers := peersOf(nodes, "y", false)
			if len(peers) != 2 {
				t.Fatalf("%d peers, want the gateways", len(peers))
			}
			if got := allowed(peers, c.via); !slices.Equal(got, []byte{c.via, 3, 5}) {
				t.Errorf("relay %d may use %v", c.via, got)
			}
			if peers[0].Keepalive != 25*time.Second {
				t.Errorf("keepalive %s", peers[0].Keepalive)
			}
		})
	}
}

func TestNoAddressStandsTwice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		nodes := mesh()
		for i := range nodes {
			if r.IntN(3) == 0 {
				nodes[i].Addr = nodes[r.IntN(len(nodes))].Addr
			}
			if r.IntN(5) == 0 {
				nodes[i].Key = nodes[r.IntN(len(nodes))].Key
			}
			if r.IntN(8) == 0 {
				nodes[i].Addr = netip.Addr{}
			}
			nodes[i].Living = r.IntN(2) == 0
		}
		peers := peersOf(nodes, string(nodes[r.IntN(len(nodes))].ID), false)
		ips, keys := map[netip.Prefix]bool{}, map[tunnel.Key]bool{}
		for _, p := range peers {
			if keys[p.Key] || p.Key.IsZero() {
				t.Fatalf("key %x twice in %+v", p.Key[0], peers)
			}
			keys[p.Key] = true
			for _, a := range p.AllowedIPs {
				if ips[a] {
					t.Fatalf("%s twice in %+v", a, peers)
				}
				ips[a] = true
			}
		}
		if !slices.IsSortedFunc(peers, func(a, b tunnel.Peer) int { return a.Key.Compare(b.Key) }) {
			t.Fatal("not sorted by key")
		}
	}
}

func TestEndpoints(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("192.168.20.0/24")}
	for _, c := range []struct{ name, record, others, want string }{
		{"the record's first", "1.2.3.4:5 2.2.2.2:2", "9.9.9.9:9", "1.2.3.4:5 2.2.2.2:2 9.9.9.9:9"},
		{"not inside the mesh", "10.77.1.1:5 2.2.2.2:2", "", "2.2.2.2:2"},
		{"not inside what is routed into it", "192.168.20.7:5", "2.2.2.2:2", "2.2.2.2:2"},
		{"nor in disguise", "[::ffff:10.77.1.1]:5", "10.77.9.9:9", ""},
		{"each once", "1.2.3.4:5", "1.2.3.4:5", "1.2.3.4:5"},
		{"no port", "1.2.3.4:0", "", ""},
		{"none", "", "", ""},
	} {
		if got := Endpoints(inside, addrs(c.record), addrs(c.others)); !slices.Equal(got, addrs(c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// addrs reads addresses parted by spaces.
func addrs(text string) (list []netip.AddrPort) {
	for _, s := range strings.Fields(text) {
		list = append(list, netip.MustParseAddrPort(s))
	}
	return list
}

func TestAloneHasNoPeers(t *testing.T) {
	if p := Peers(Self{ID: "a", Role: discovery.RoleGateway}, nil); p == nil || len(p) != 0 {
		t.Errorf("got %v, want an empty list: nil would mean keep", p)
	}
}
