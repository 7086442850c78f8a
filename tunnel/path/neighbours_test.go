package path

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"drawbridge/discovery"
	"drawbridge/tunnel"
)

// room is n servers of one site.
func room(n int) []Node {
	nodes := []Node{node("a", discovery.RoleGateway, 1)}
	for i := range n {
		s := Node{
			ID: discovery.NodeID(fmt.Sprintf("s%03d", i)), Role: discovery.RoleServer, Site: "idc", Key: tunnel.Key{2, byte(i), byte(i >> 8)},
			Addr:  netip.AddrFrom4([4]byte{10, 77, 1 + byte(i>>8), byte(i)}),
			Local: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}), 51820)},
		}
		nodes = append(nodes, s)
	}
	return nodes
}

// seenBy are the views of one node: itself, and the others.
func seenBy(nodes []Node, i int) (Self, []Node) {
	n := nodes[i]
	rest := slices.Delete(slices.Clone(nodes), i, i+1)
	return Self{ID: n.ID, Role: n.Role, Site: n.Site, Addr: n.Addr, Seen: n.Seen, Local: n.Local, Direct: n.Direct}, rest
}

func TestNeighboursChooseEachOther(t *testing.T) {
	for _, n := range []int{1, 2, 3, 60, 61, 62, 63, 200, 500} {
		nodes := room(n)
		chosen := map[discovery.NodeID]map[discovery.NodeID]bool{}
		for i := range nodes {
			self, rest := seenBy(nodes, i)
			mine := map[discovery.NodeID]bool{}
			for _, k := range Neighbours(self, rest) {
				mine[rest[k].ID] = true
			}
			if len(mine) > MaxNeighbours {
				t.Fatalf("%d servers: %s has %d neighbours", n, self.ID, len(mine))
			}
			if want := min(n-1, MaxNeighbours); self.Role == discovery.RoleServer && len(mine) != want {
				t.Fatalf("%d servers: %s has %d neighbours, want %d", n, self.ID, len(mine), want)
			}
			chosen[self.ID] = mine
		}
		for a, mine := range chosen {
			for b := range mine {
				if !chosen[b][a] {
					t.Fatalf("%d servers: %s chose %s, which did not", n, a, b)
				}
			}
		}
	}
}

func TestNeighboursAreNear(t *testing.T) {
	nodes := room(2)
	near := func() bool {
		self, rest := seenBy(nodes, 1)
		return len(Neighbours(self, rest)) == 1
	}
	if !near() {
		t.Fatal("two servers of one site are no neighbours")
	}
	nodes[2].Site = "lab"
	if near() {
		t.Error("neighbours of different sites behind nobody knows what")
	}
	nodes[1].Seen, nodes[2].Seen = addrs("198.51.100.2:4000 203.0.113.9:1"), addrs("198.51.100.2:4001")
	if !near() {
		t.Error("two sites behind one NAT are no neighbours")
	}
	nodes[2].Local = nil
	if near() {
		t.Error("a neighbour that does not say where it is")
	}
}

// TestBothEndsAgree: whatever the records say, a path is direct at both ends or
// at neither, and nobody may use an address twice.
func TestBothEndsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	direct := 0
	for range 400 {
		nodes := room(2 + r.IntN(6))
		for i := range nodes {
			for k := range nodes {
				if i != k && r.IntN(2) == 0 {
					nodes[i].Direct = append(nodes[i].Direct, nodes[k].Addr)
				}
			}
			slices.SortFunc(nodes[i].Direct, netip.Addr.Compare)
			nodes[i].Try = r.IntN(2) == 0
			if r.IntN(4) == 0 {
				nodes[i].Site = "lab"
			}
		}
		carries := make([][]tunnel.Peer, len(nodes))
		for i := range nodes {
			self, rest := seenBy(nodes, i)
			carries[i] = Peers(self, rest)
			seen := map[netip.Prefix]bool{}
			for _, p := range carries[i] {
				for _, a := range p.AllowedIPs {
					if seen[a] {
						t.Fatalf("%s twice at %s", a, self.ID)
					}
					seen[a] = true
				}
			}
			if self.Role == discovery.RoleServer && len(seen) != len(nodes)-1 {
				t.Fatalf("%s reaches %d of %d", self.ID, len(seen), len(nodes)-1)
			}
		}
		for i := 1; i < len(nodes); i++ {
			for k := 1; k < i; k++ {
				there, back := owns(carries[i], nodes[k]), owns(carries[k], nodes[i])
				if there != back {
					t.Fatalf("%s and %s disagree: %v %v", nodes[i].ID, nodes[k].ID, nodes[i].Direct, nodes[k].Direct)
				}
				if there {
					direct++
				}
			}
		}
	}
	if direct < 100 {
		t.Errorf("only %d direct paths: the test shows nothing", direct)
	}
}

// owns: the node's own peer carries its address.
func owns(peers []tunnel.Peer, n Node) bool {
	return slices.ContainsFunc(peers, func(p tunnel.Peer) bool {
		return p.Key == n.Key && slices.Contains(p.AllowedIPs, netip.PrefixFrom(n.Addr, 32))
	})
}

// A neighbour that is only tried gets no address, so nothing is disturbed.
func TestTriedNeighbourCarriesNothing(t *testing.T) {
	nodes := room(2)
	nodes[2].Try, nodes[2].Endpoint, nodes[2].Keepalive = true, addrs("192.168.0.1:51820")[0], Keepalive
	self, rest := seenBy(nodes, 1)
	peers := Peers(self, rest)
	i := slices.IndexFunc(peers, func(p tunnel.Peer) bool { return p.Key == nodes[2].Key })
	if i < 0 || len(peers[i].AllowedIPs) != 0 || peers[i].Endpoint != nodes[2].Endpoint || peers[i].Keepalive != Keepalive {
		t.Fatalf("peers %+v", peers)
	}
	if got := allowed(peers, 1); !slices.Equal(got, []byte{1, 1}) {
		t.Errorf("the relay may use %v", got)
	}
}

func TestDoors(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	for _, c := range []struct{ name, own, theirs, want string }{
		{"same wire first", "192.168.50.11:51820", "10.0.0.9:51820 192.168.50.12:51820 192.168.60.3:51820", "192.168.50.12:51820 192.168.60.3:51820 10.0.0.9:51820"},
		{"never into the mesh", "10.77.3.3:1", "10.77.3.4:1", ""},
		{"never myself", "192.168.50.11:51820", "192.168.50.11:51820", ""},
		{"the same host, another port", "192.168.50.11:51820", "192.168.50.11:51821", "192.168.50.11:51821"},
		{"only a family that I have", "192.168.50.11:51820", "[fd00::1]:51820", ""},
		{"not wherever it likes", "192.0.2.11:1 10.1.1.1:1", "203.0.113.9:53 192.0.2.12:1 [2001:db8::1]:1", "192.0.2.12:1"},
		{"IPv6 on one wire", "[2001:db8:0:1::5]:1", "[2001:db8:0:1::6]:1 [2001:db8:0:2::7]:1 [fd00::9]:1", "[2001:db8:0:1::6]:1 [fd00::9]:1"},
		{"loopback", "127.0.0.1:1", "127.0.0.1:2", ""},
	} {
		if got := Doors(inside, addrs(c.own), addrs(c.theirs)); !slices.Equal(got, addrs(c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
