package tunneltest

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"drawbridge/tunnel"
)

// ipv6: the overlay carries both families, and the address says which.
func ipv6(t *testing.T, p Pair) {
	a, b := pair(t, p)
	for _, way := range [][2]*node{{a, b}, {b, a}, {a, a}} {
		if err := exchangeAt(way[0], way[1], way[1].cfg.Addr6, 1<<20); err != nil {
			t.Fatalf("tcp over IPv6 from device %d to %d: %v", way[0].i, way[1].i, err)
		}
	}
	pa, pb := a.packetsAt(a.cfg.Addr6), b.packetsAt(b.cfg.Addr6)
	send(pa, pb.LocalAddr(), "six")
	if got := receive(t, pb, patience); got != "six" {
		t.Errorf("b received %q", got)
	}
	l, err := a.dev.Network().Listen("tcp6", netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := netip.MustParseAddrPort(l.Addr().String()).Addr(); got != a.cfg.Addr6 {
		t.Errorf("tcp6 listens on %v, want %v", got, a.cfg.Addr6)
	}
	if l, err := a.dev.Network().Listen("tcp", netip.AddrPortFrom(b.cfg.Addr6, 0)); err == nil {
		l.Close()
		t.Error("listens on the IPv6 address of another")
	}
	ctx, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()
	if c, err := b.dev.Network().DialContext(ctx, "tcp4", netip.MustParseAddrPort(l.Addr().String())); err == nil {
		c.Close()
		t.Error("tcp4 dialled an IPv6 address")
	}
	// An address that the peer may not use is refused in this family too.
	a.cfg.Peers[0].AllowedIPs = a.cfg.Peers[0].AllowedIPs[:1]
	a.apply()
	send(pb, pa.LocalAddr(), "not yours")
	if got := receive(t, pa, silence); got != "" {
		t.Errorf("a received %q from an address that is not the sender's", got)
	}
	if err := exchange(b, a, 1000); err != nil {
		t.Errorf("IPv4 beside it: %v", err)
	}
}

// smallMTU: what cannot carry IPv6 leaves it off, and says so by an error.
func smallMTU(t *testing.T, p Pair) {
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	b.cfg.MTU = 1000
	join(a, b)
	if err := exchange(a, b, 100<<10); err != nil {
		t.Fatal(err)
	}
	if l, err := b.dev.Network().Listen("tcp6", netip.AddrPort{}); err == nil {
		l.Close()
		t.Error("IPv6 on a device of 1000 bytes")
	}
}

// routes: what lies behind a peer is reached through it.
func routes(t *testing.T, p Pair) {
	if p.Behind == nil {
		t.Skip("no host behind this device")
	}
	a, b := pair(t, p)
	x := newNode(t, p, 2)
	join(a, x)
	lan := []netip.Prefix{netip.MustParsePrefix("192.168.20.0/24"), netip.MustParsePrefix("fd20:20::/64")}
	for _, at := range []string{"192.168.20.1", "fd20:20::1"} {
		to := p.Behind(t, a.i, netip.MustParseAddr(at))
		echo := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			c, err := b.dev.Network().DialContext(ctx, "tcp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			if _, err := c.Write([]byte("hello")); err != nil {
				return err
			}
			_, err = io.ReadFull(c, make([]byte, 5))
			return err
		}
		if err := echo(); err == nil {
			t.Fatalf("%v answers without a route", to)
		}
		own := b.cfg.Peers[0].AllowedIPs
		b.cfg.Routes = lan
		b.cfg.Peers[0].AllowedIPs = append(slices.Clone(own), lan...)
		b.apply()
		b.apply()
		if err := echo(); err != nil {
			t.Errorf("%v with a route: %v", to, err)
		}
		b.cfg.Routes = nil
		b.cfg.Peers[0].AllowedIPs = own
		b.apply()
		if err := echo(); err == nil {
			t.Errorf("%v answers after the route is gone", to)
		}
	}
	bad := b.cfg
	bad.Routes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	if err := b.try(bad); err == nil {
		t.Error("a default route was accepted")
	}
}

// peerMTU: the way to one peer is narrower than the device.
func peerMTU(t *testing.T, p Pair) {
	if p.Path == nil {
		t.Skip("this device has no routes")
	}
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	a.cfg.MTU, b.cfg.MTU = 1420, 1420
	join(a, b)
	check := func(step string, want int) {
		t.Helper()
		b.apply()
		for _, dst := range []netip.Addr{a.cfg.Addr, a.cfg.Addr6} {
			if got := p.Path(t, b.i, dst); got != want {
				t.Errorf("%s: MTU towards %v is %d, want %d", step, dst, got, want)
			}
		}
		other := netip.MustParseAddr("10.77.9.9")
		for _, dst := range []netip.Addr{other, tunnel.Addr6(overlay6, other)} {
			if got := p.Path(t, b.i, dst); got != 1420 {
				t.Errorf("%s: MTU towards %v is %d, want the device's", step, dst, got)
			}
		}
		if err := exchange(b, a, 100<<10); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	check("device's", 1420)
	b.cfg.Peers[0].MTU = 1300
	check("narrow", 1300)
	check("narrow again", 1300)
	b.cfg.Peers[0].MTU = 1350
	check("wider", 1350)
	b.cfg.Peers[0].MTU = 9000
	check("more than the device's", 1420)
	b.cfg.Peers[0].MTU = 0
	check("device's again", 1420)
}
