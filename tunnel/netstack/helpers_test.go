package netstack_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"drawbridge/tunnel"
	"drawbridge/tunnel/tunneltest"
)

const patience = 15 * time.Second

var mesh = netip.MustParsePrefix("10.77.0.0/16")

// wish is a config for the overlay address 10.77.0.n with the private key n.
func wish(n byte, peers ...tunnel.Peer) tunnel.Config {
	return tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: n}), Addr: addr(n), Mesh: mesh, Peers: peers}
}

func addr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, n}) }

func at(n byte, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr(n), port) }

func peer(t testing.TB, n byte, endpoint netip.AddrPort, allowed ...netip.Prefix) tunnel.Peer {
	t.Helper()
	k, err := tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: n}).Public()
	if err != nil {
		t.Fatal(err)
	}
	if allowed == nil {
		allowed = []netip.Prefix{netip.PrefixFrom(addr(n), 32)}
	}
	p := tunnel.Peer{Key: k, Endpoint: endpoint, AllowedIPs: allowed}
	if endpoint.IsValid() {
		p.Keepalive = 25 * time.Second
	}
	return p
}

func apply(t testing.TB, d tunnel.Device, c tunnel.Config) uint16 {
	t.Helper()
	if err := d.Apply(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	s, err := d.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s.ListenPort
}

// inMemory is two joined devices with the addresses 10.77.0.1 and .2.
func inMemory(t *testing.T) (a, b tunnel.Device) {
	u := tunneltest.NewUnderlay()
	da, db := u.Device(tunneltest.Options{}), u.Device(tunneltest.Options{})
	port := apply(t, da, wish(1, peer(t, 2, netip.AddrPort{})))
	apply(t, db, wish(2, peer(t, 1, netip.AddrPortFrom(da.Host(), port))))
	t.Cleanup(func() { da.Close(); db.Close() })
	return da, db
}

// echo is a local TCP service that sends back what it gets until end of file.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	return netip.MustParseAddrPort(l.Addr().String())
}

func serve(t *testing.T, l net.Listener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// run starts a task and joins it at the end of the test.
func run(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			t.Error("run does not end")
		}
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

func dial(n tunnel.Network, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := n.DialContext(ctx, "tcp", to)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// talk sends text, ends the sending side, and reads to the end.
func talk(t *testing.T, c net.Conn, text string) (string, error) {
	t.Helper()
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}
