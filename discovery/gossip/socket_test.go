package gossip

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"drawbridge/discovery"
)

// loopback is a Network of system sockets that are bound to one address.
type loopback struct{ addr netip.Addr }

func (l loopback) DialContext(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.addr, 0))}
	return d.DialContext(ctx, network, to.String())
}

func (l loopback) Listen(network string, at netip.AddrPort) (net.Listener, error) {
	return net.Listen(network, at.String())
}

func (l loopback) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	return net.ListenPacket(network, at.String())
}

// TestSystemSockets runs three nodes on the loopback network, where streams
// behave as TCP does.
func TestSystemSockets(t *testing.T) {
	probe, err := net.ListenPacket("udp", "127.77.0.1:0")
	if err != nil {
		t.Skipf("no other loopback address than 127.0.0.1: %v", err)
	}
	port := addrPortOf(probe.LocalAddr()).Port()
	probe.Close()

	root := newAuthority("root")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var list []*villager
	for n := range 3 {
		p := newPerson(root, n+1, discovery.RoleGateway)
		p.id.Addr = netip.AddrFrom4([4]byte{127, 77, 0, byte(n + 1)})
		p.chain = root.issue(p.id, p.key.Public().(pubKey))
		o := p.options(newWorld(), root)
		o.Mesh, o.Port = netip.MustParsePrefix("127.77.0.0/16"), port
		o.Network = loopback{p.id.Addr}
		o.Timing = Timing{Gossip: 20 * time.Millisecond, Rejoin: 100 * time.Millisecond, PushPull: 500 * time.Millisecond}
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > 0 {
			if err := list[0].Introduce(p.chain); err != nil {
				t.Fatal(err)
			}
			g.Import(list[0].Export())
		}
		done := make(chan error, 1)
		run, stop := context.WithCancel(ctx)
		go func() { done <- g.Run(run) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		}()
		if err := g.Announce(announcement(p.id.Name, 1)); err != nil {
			t.Fatal(err)
		}
		list = append(list, &villager{Gossip: g, person: p})
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !allSee(list)() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, g := range list {
				t.Logf("%s %v", brief(g.Members()), g.Counters())
			}
			t.Fatal("three nodes do not see each other")
		}
	}
}
