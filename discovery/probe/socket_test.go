package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"drawbridge/discovery"
)

// TestSystemSockets runs two probers on real sockets: addresses of the
// loopback network, one port.
func TestSystemSockets(t *testing.T) {
	a, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := a.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	b, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(t, "127.0.0.2"), free)))
	if err != nil {
		a.Close()
		t.Skipf("no second loopback address: %v", err)
	}
	proven := make(chan discovery.Observation, 1)
	make1 := func(id discovery.NodeID, c net.PacketConn, report func(discovery.Sight, []discovery.View)) *Prober {
		return New(Options{Self: id, Boot: 1, Port: free, Report: report, Listen: func() (net.PacketConn, error) { return c, nil }})
	}
	pa := make1("a", a, func(s discovery.Sight, _ []discovery.View) {
		if len(s.Observations) == 1 && !s.Observations[0].Proof.IsZero() {
			select {
			case proven <- s.Observations[0]:
			default:
			}
		}
	})
	pb := make1("b", b, func(discovery.Sight, []discovery.View) {})
	pa.Set(wish(discovery.ProbePeer{Node: "b", Addr: addr(t, "127.0.0.2"), Group: "idc"}))
	pb.Set(onDemand(discovery.ProbePeer{Node: "a", Addr: addr(t, "127.0.0.1")}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, p := range []*Prober{pa, pb} {
		wg.Go(func() { _ = p.Run(ctx) })
	}
	defer wg.Wait()
	defer cancel()
	select {
	case o := <-proven:
		if o.RTT <= 0 || o.RTT > 5*time.Second {
			t.Errorf("rtt %v", o.RTT)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("no proof in 10 s: %+v %+v", pa.Counters(), pb.Counters())
	}
}

// BenchmarkRound is one packet each way: encode, hand over, decode, account.
// No socket is involved, so that it shows what the prober itself costs.
func BenchmarkRound(b *testing.B) {
	now := time.Unix(1000, 0)
	mk := func(self, other, ip string) (*Prober, *socket, *pipe) {
		p := New(Options{Self: discovery.NodeID(self), Boot: 1, Report: func(discovery.Sight, []discovery.View) {}})
		peers := []discovery.ProbePeer{{Node: discovery.NodeID(other), Addr: addr(b, ip), Group: "idc", Tell: true}}
		p.take(discovery.ProbeWish{EchoAfter: time.Second, Peers: peers, Views: []discovery.View{{Site: "idc", State: discovery.ViewLit}}}, now)
		c := &pipe{}
		return p, &socket{conn: c, fast: c}, c
	}
	pa, sa, ca := mk("a", "b", "10.0.0.2")
	pb, sb, cb := mk("b", "a", "10.0.0.1")
	fromA := netip.AddrPortFrom(addr(b, "10.0.0.1"), port)
	fromB := netip.AddrPortFrom(addr(b, "10.0.0.2"), port)
	qa, qb := pa.sorted[0], pb.sorted[0]
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		pa.pulse(sa, qa, kindPulse, now)
		pb.handle(sb, ca.last, fromA, now)
		pb.pulse(sb, qb, kindPulse, now)
		pa.handle(sa, cb.last, fromB, now)
	}
	if qa.proof.IsZero() || len(qa.views) != 1 {
		b.Fatal("no proof")
	}
}

// BenchmarkTurn is one turn of a gateway's loop with 16 nodes and nothing due.
func BenchmarkTurn(b *testing.B) {
	now := time.Unix(1000, 0)
	p := New(Options{Boot: 1, Report: func(discovery.Sight, []discovery.View) {}})
	w := discovery.ProbeWish{Interval: time.Hour, EchoAfter: time.Hour}
	for i := range 16 {
		w.Peers = append(w.Peers, discovery.ProbePeer{Node: discovery.NodeID(rune('a' + i)), Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Group: "idc"})
	}
	p.take(w, now)
	c := &pipe{}
	s := &socket{conn: c, fast: c}
	p.send(s, now)
	b.ReportAllocs()
	for b.Loop() {
		p.send(s, now)
		p.next(now)
	}
}

// pipe keeps the last packet written.
type pipe struct {
	net.PacketConn
	last []byte
}

func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	p.last = append(p.last[:0], b...)
	return len(b), nil
}

func (p *pipe) ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error) {
	return 0, netip.AddrPort{}, net.ErrClosed
}
