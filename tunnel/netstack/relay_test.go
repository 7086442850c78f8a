package netstack_test

import (
	"io"
	"net/netip"
	"testing"

	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
)

// star is two servers that know only a gateway.
func star(t testing.TB, forward bool) (left, right tunnel.Device) {
	gw := netstack.New(netstack.Options{Forward: forward})
	left, right = netstack.New(netstack.Options{}), netstack.New(netstack.Options{})
	t.Cleanup(func() { gw.Close(); left.Close(); right.Close() })
	port := apply(t, gw, wish(1, peer(t, 2, netip.AddrPort{}), peer(t, 3, netip.AddrPort{})))
	up := peer(t, 1, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), mesh)
	apply(t, left, wish(2, up))
	apply(t, right, wish(3, up))
	return left, right
}

func TestGatewayRelays(t *testing.T) {
	left, right := star(t, true)
	l, err := right.Network().Listen("tcp", at(3, 80))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	c, err := dial(left.Network(), at(3, 80))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := talk(t, c, "through the gateway"); err != nil || got != "through the gateway" {
		t.Errorf("got %q, %v", got, err)
	}
}

// BenchmarkTCP is one stream between two netstack devices over loopback.
func BenchmarkTCP(b *testing.B) {
	p := netstack.New(netstack.Options{})
	q := netstack.New(netstack.Options{})
	defer p.Close()
	defer q.Close()
	port := apply(b, p, wish(1, peer(b, 2, netip.AddrPort{})))
	apply(b, q, wish(2, peer(b, 1, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))))
	l, err := p.Network().Listen("tcp", at(1, 80))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- 0
			return
		}
		n, _ := io.Copy(io.Discard, c)
		done <- n
	}()
	c, err := dial(q.Network(), at(1, 80))
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, 128<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	c.(interface{ CloseWrite() error }).CloseWrite()
	if n := <-done; n == 0 {
		b.Fatal("nothing arrived")
	}
	l.Close()
}
