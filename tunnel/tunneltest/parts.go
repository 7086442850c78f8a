package tunneltest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"drawbridge/tunnel"
)

func traffic(t *testing.T, p Pair) {
	a, b := pair(t, p)
	for _, way := range [][2]*node{{a, b}, {b, a}} {
		if err := exchange(way[0], way[1], 1<<20); err != nil {
			t.Fatalf("tcp from device %d to %d: %v", way[0].i, way[1].i, err)
		}
	}
	if err := exchange(a, a, 1<<10); err != nil {
		t.Fatalf("tcp of device 0 to itself: %v", err)
	}
	pa, pb := a.packets(), b.packets()
	send(pa, pb.LocalAddr(), "to b")
	if got := receive(t, pb, patience); got != "to b" {
		t.Fatalf("b received %q", got)
	}
	c, err := b.dial(pa.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("to a")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if err := pa.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, from, err := pa.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "to a" || from.String() != c.LocalAddr().String() {
		t.Fatalf("a received %q from %v, %v", buf[:n], from, err)
	}
	send(pa, from, "back")
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "back" {
		t.Fatalf("connected socket received %q, %v", buf[:n], err)
	}
}

// networkErrors: callers tell conditions apart by the errors of package net.
func networkErrors(t *testing.T, p Pair) {
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	if _, err := a.dev.Network().Listen("tcp", netip.AddrPort{}); err == nil {
		t.Error("listen before the first Apply succeeded")
	}
	join(a, b)
	l := a.listen()
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
	if _, err := b.dial(l.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial where nobody listens: %v, want connection refused", err)
	}
	if _, err := b.dev.Network().Listen("tcp", netip.MustParseAddrPort("127.0.0.1:0")); err == nil {
		t.Error("listen on a foreign address succeeded")
	}
	if _, err := b.dev.Network().Listen("unix", netip.AddrPort{}); err == nil {
		t.Error("listen on a unix socket succeeded")
	}
	ctx, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()
	if _, err := b.dev.Network().DialContext(ctx, "tcp", netip.MustParseAddrPort("10.77.9.9:1")); err == nil {
		t.Error("dial to nobody succeeded")
	}
	c := b.packets()
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var ne net.Error
	if _, _, err := c.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read after the deadline: %v", err)
	}
	c.Close()
	if _, _, err := c.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read on a closed socket: %v", err)
	}
}

func applyTwice(t *testing.T, p Pair) {
	a, b := pair(t, p)
	l := a.listen()
	c, err := b.dial(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ha, hb := a.seen(b).LastHandshake, b.seen(a).LastHandshake
	port := a.status().ListenPort
	third, err := tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{3}).Public()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		a.apply()
		b.apply()
	}
	// A change of others is none for this peer.
	a.cfg.Peers = append(a.cfg.Peers, tunnel.Peer{Key: third, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.77.0.9/32")}})
	a.apply()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Fatalf("connection did not survive: %v", err)
	}
	if !a.seen(b).LastHandshake.Equal(ha) || !b.seen(a).LastHandshake.Equal(hb) {
		t.Error("an equal wish made a new handshake")
	}
	if got := a.status().ListenPort; got != port {
		t.Errorf("port %d became %d", port, got)
	}
}

func unknownPeer(t *testing.T, p Pair) {
	a, b := pair(t, p)
	x := newNode(t, p, 2)
	to := a.peer()
	to.Endpoint, to.Keepalive = a.endpoint(), time.Second
	x.cfg.Peers = []tunnel.Peer{to}
	x.apply()
	pa, px := a.packets(), x.packets()
	send(px, pa.LocalAddr(), "stranger")
	if got := receive(t, pa, silence); got != "" {
		t.Fatalf("a received %q", got)
	}
	send(b.packets(), pa.LocalAddr(), "friend")
	if got := receive(t, pa, patience); got != "friend" {
		t.Fatalf("a received %q", got)
	}
	if h := x.seen(a).LastHandshake; !h.IsZero() {
		t.Error("a stranger has a handshake")
	}
}

func removedPeer(t *testing.T, p Pair) {
	a, b := pair(t, p)
	pa, pb := a.packets(), b.packets()
	send(pb, pa.LocalAddr(), "before")
	if got := receive(t, pa, patience); got != "before" {
		t.Fatalf("a received %q", got)
	}
	a.cfg.Peers = nil
	a.apply()
	send(pb, pa.LocalAddr(), "after")
	send(pa, pb.LocalAddr(), "after")
	if got := receive(t, pa, silence) + receive(t, pb, silence); got != "" {
		t.Fatalf("%q passed", got)
	}
	if got := a.status().Peers; len(got) != 0 {
		t.Errorf("peers left: %v", got)
	}
}

func roaming(t *testing.T, p Pair) {
	a, b := pair(t, p)
	a.cfg.Peers[0].Endpoint = b.endpoint()
	a.apply()
	port, release := p.Port(t, b.i)
	release()
	b.cfg.ListenPort = port
	b.apply()
	now := netip.AddrPortFrom(p.Underlay(b.i), port)
	pa, pb := a.packets(), b.packets()
	a.await("word from the new address", func() bool {
		send(pb, pa.LocalAddr(), "moved")
		return receive(t, pa, silence) == "moved" && a.seen(b).Endpoint == now
	})
	a.cfg.Peers[0].Keepalive = 7 * time.Second
	a.apply()
	if got := a.seen(b).Endpoint; got != now {
		t.Errorf("endpoint %v after an unrelated change, want the learned %v", got, now)
	}
	for receive(t, pb, time.Millisecond) != "" { // nothing is left from before
	}
	send(pa, pb.LocalAddr(), "found you")
	if got := receive(t, pb, patience); got != "found you" {
		t.Errorf("b received %q", got)
	}
}

func epoch(t *testing.T, p Pair) {
	a, b := pair(t, p)
	for _, n := range [][2]*node{{b, a}, {a, b}} { // the one that dials, and the one that waits
		self, other := n[0], n[1]
		before, there := self.seen(other), other.seen(self)
		// A WireGuard responder ignores a second initiation within 20 ms.
		self.await("pause", func() bool { return time.Since(before.LastHandshake) > 50*time.Millisecond })
		self.cfg.Peers[0].Epoch++
		self.apply()
		self.await("new handshake", func() bool {
			return self.seen(other).LastHandshake.After(before.LastHandshake) && other.seen(self).LastHandshake.After(there.LastHandshake)
		})
		if got := self.seen(other).Endpoint; got != before.Endpoint {
			t.Errorf("device %d: endpoint %v after a new epoch, want %v", self.i, got, before.Endpoint)
		}
		if err := exchange(self, other, 1000); err != nil {
			t.Errorf("device %d after a new epoch: %v", self.i, err)
		}
	}
}

func allowedIPs(t *testing.T, p Pair) {
	a, b := pair(t, p)
	x := newNode(t, p, 2)
	join(a, x) // x may use its own address
	pa := a.packets()

	x.cfg.Addr = b.cfg.Addr // and now it lies
	if err := x.dev.Close(); err != nil {
		t.Fatal(err)
	}
	x.dev = p.New(t, x.i)
	x.apply()
	before, sent := a.seen(x).RxBytes, x.seen(a).TxBytes
	px, pb := x.packets(), b.packets()
	send(px, pa.LocalAddr(), "lie")
	if got := receive(t, pa, silence); got != "" {
		t.Fatalf("a received %q from an address that is not the sender's", got)
	}
	a.await("packet of the liar", func() bool { // it did arrive, and was refused
		send(px, pa.LocalAddr(), "lie")
		if receive(t, pa, silence) != "" {
			return false
		}
		switch a.status().Backend {
		case tunnel.Memory:
			return true
		case tunnel.Kernel: // counts only what it accepts
			return x.seen(a).TxBytes > sent+500
		}
		return a.seen(x).RxBytes > before
	})
	send(pb, pa.LocalAddr(), "truth")
	if got := receive(t, pa, patience); got != "truth" {
		t.Fatalf("a received %q", got)
	}

	// The address moves from b to x.
	a.cfg.Peers[0].AllowedIPs, a.cfg.Peers[1].AllowedIPs = nil, a.cfg.Peers[0].AllowedIPs
	a.apply()
	send(pb, pa.LocalAddr(), "no longer")
	if got := receive(t, pa, silence); got != "" {
		t.Fatalf("a received %q after the address moved", got)
	}
	send(px, pa.LocalAddr(), "now mine")
	if got := receive(t, pa, patience); got != "now mine" {
		t.Fatalf("a received %q", got)
	}
}

func status(t *testing.T, p Pair) {
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	if got := a.status(); got.Backend == "" || len(got.Peers) != 0 {
		t.Errorf("status before the first Apply: %+v", got)
	}
	join(a, b)
	if err := exchange(b, a, 100<<10); err != nil {
		t.Fatal(err)
	}
	s := a.seen(b)
	if age := time.Since(s.LastHandshake); age < 0 || age > time.Minute {
		t.Errorf("handshake %v ago", age)
	}
	// What has left is counted only after it may have arrived.
	a.await("100 kB counted", func() bool { s = a.seen(b); return s.RxBytes >= 100<<10 && s.TxBytes >= 100<<10 })
	if want := b.endpoint(); s.Endpoint != want {
		t.Errorf("endpoint %v, want %v", s.Endpoint, want)
	}
}

func portTaken(t *testing.T, p Pair) {
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	port, release := p.Port(t, 0)
	defer release()
	a.cfg.ListenPort = port
	if err := a.try(a.cfg); !errors.Is(err, tunnel.ErrPortTaken) {
		t.Fatalf("first Apply on a taken port: %v, want ErrPortTaken", err)
	}
	a.cfg.ListenPort = 0
	join(a, b)
	before := a.status().ListenPort
	other := a.cfg
	other.ListenPort = port
	other.Peers = nil
	err := a.try(other)
	if !errors.Is(err, tunnel.ErrPortTaken) || !strings.Contains(err.Error(), "port") {
		t.Fatalf("change to a taken port: %v, want ErrPortTaken", err)
	}
	if got := a.status(); got.ListenPort != before || len(got.Peers) != 1 {
		t.Errorf("a refused change left port %d and %d peers, want %d and 1", got.ListenPort, len(got.Peers), before)
	}
	if err := exchange(b, a, 1000); err != nil {
		t.Errorf("traffic after a refused change: %v", err)
	}
	release()
	a.apply()
	other.Peers = a.cfg.Peers
	if err := a.try(other); err != nil {
		t.Errorf("change to a free port: %v", err)
	}
	if got := a.status().ListenPort; got != port {
		t.Errorf("port %d, want %d", got, port)
	}
}

func mtu(t *testing.T, p Pair) {
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	b.cfg.MTU = 1400
	join(a, b)
	for _, want := range []struct {
		n   *node
		mtu int
	}{{a, tunnel.DefaultMTU}, {b, 1400}} {
		if got := want.n.status().MTU; got != want.mtu {
			t.Errorf("status says MTU %d, want %d", got, want.mtu)
		}
		if p.MTU != nil {
			if got := p.MTU(t, want.n.i); got != want.mtu {
				t.Errorf("MTU in force %d, want %d", got, want.mtu)
			}
		}
	}
	pa, pb := a.packets(), b.packets()
	big := strings.Repeat("x", 4000)
	send(pb, pa.LocalAddr(), big)
	if got := receive(t, pa, patience); got != big {
		t.Errorf("a received %d bytes of a packet above the MTU, want %d", len(got), len(big))
	}
	b.cfg.MTU = 1300
	if err := b.try(b.cfg); err != nil && !errors.Is(err, tunnel.ErrNeedsRestart) {
		t.Errorf("change of the MTU: %v", err)
	} else if err == nil && b.status().MTU != 1300 {
		t.Errorf("status says MTU %d after a change to 1300", b.status().MTU)
	}
}

func needsRestart(t *testing.T, p Pair) {
	a, b := pair(t, p)
	other := a.cfg
	other.Addr = netip.MustParseAddr("10.77.3.3")
	if err := a.try(other); err != nil && !errors.Is(err, tunnel.ErrNeedsRestart) {
		t.Errorf("change of the address: %v", err)
	} else if err != nil {
		if err := exchange(b, a, 1000); err != nil {
			t.Errorf("traffic after a refused change: %v", err)
		}
	}
	bad := b.cfg
	bad.Peers = append(bad.Peers[:1:1], tunnel.Peer{Key: tunnel.Key{9}, AllowedIPs: bad.Peers[0].AllowedIPs})
	if err := b.try(bad); err == nil {
		t.Error("a wish with one address at two peers was accepted")
	}
	if err := exchange(b, a, 1000); err != nil && a.status().MTU != 0 {
		t.Errorf("traffic after a refused wish: %v", err)
	}
}

func closing(t *testing.T, p Pair) {
	a, b := pair(t, p)
	l, pc := a.listen(), a.packets()
	c, err := b.dial(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 3)
	go func() { _, err := l.Accept(); ends <- err }()
	go func() { _, err := s.Read(make([]byte, 1)); ends <- err }()
	go func() { _, _, err := pc.ReadFrom(make([]byte, 1)); ends <- err }()
	for range 2 {
		if err := a.dev.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	timeout := time.After(patience)
	for range 3 {
		select {
		case err := <-ends:
			if err == nil {
				t.Error("a connection outlived its device")
			}
		case <-timeout:
			t.Fatal("a reader still waits after Close")
		}
	}
	if err := a.try(a.cfg); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("apply after close: %v, want ErrClosed", err)
	}
	if _, err := a.dev.Status(context.Background()); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("status after close: %v, want ErrClosed", err)
	}
	if _, err := a.dev.Network().Listen("tcp", netip.AddrPort{}); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("listen after close: %v, want ErrClosed", err)
	}
	if _, err := a.dial(l.Addr()); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("dial after close: %v, want ErrClosed", err)
	}
	c.Close()
	// What a device held is free again.
	again := newNode(t, p, 0)
	again.cfg = a.cfg
	again.apply()
	never := p.New(t, 2)
	if err := never.Close(); err != nil {
		t.Errorf("close of a device that was never applied: %v", err)
	}
}
