package tunneltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"drawbridge/tunnel"
)

const (
	patience = 15 * time.Second       // for what must happen; three tries of a WireGuard handshake
	silence  = 300 * time.Millisecond // for what must not
)

var (
	overlay  = netip.MustParsePrefix("10.77.0.0/16")
	overlay6 = tunnel.Mesh6("contract", overlay)
)

// node is one device of a contract test with its wish.
type node struct {
	t   *testing.T
	p   Pair
	i   int
	dev tunnel.Device
	cfg tunnel.Config
	key tunnel.Key
}

// newNode makes device i with the overlay address 10.77.0.(i+1) and no peers.
func newNode(t *testing.T, p Pair, i int) *node {
	t.Helper()
	private, err := tunnel.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := private.Public()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, p: p, i: i, dev: p.New(t, i), key: key}
	n.cfg = tunnel.Config{PrivateKey: private, Mesh: overlay, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), Mesh6: overlay6}
	n.cfg.Addr6 = tunnel.Addr6(overlay6, n.cfg.Addr)
	t.Cleanup(func() {
		if err := n.dev.Close(); err != nil {
			t.Errorf("close device %d: %v", i, err)
		}
		if p.Left != nil {
			if left := p.Left(t, i); left != "" {
				t.Errorf("device %d left %s", i, left)
			}
		}
	})
	return n
}

// pair makes devices 0 and 1 with a session; 1 dials.
func pair(t *testing.T, p Pair) (*node, *node) {
	t.Helper()
	a, b := newNode(t, p, 0), newNode(t, p, 1)
	join(a, b)
	return a, b
}

// join makes from dial to, and waits for the handshake on both sides.
func join(to, from *node) {
	to.t.Helper()
	to.cfg.Peers = append(to.cfg.Peers, from.peer())
	to.apply()
	p := to.peer()
	p.Endpoint = to.endpoint()
	p.Keepalive = 25 * time.Second
	from.cfg.Peers = append(from.cfg.Peers, p)
	from.apply()
	to.await("handshake", func() bool { return !to.seen(from).LastHandshake.IsZero() && !from.seen(to).LastHandshake.IsZero() })
}

// peer is how others see n when they wait for it.
func (n *node) peer() tunnel.Peer {
	return tunnel.Peer{Key: n.key, AllowedIPs: []netip.Prefix{netip.PrefixFrom(n.cfg.Addr, 32), netip.PrefixFrom(n.cfg.Addr6, 128)}}
}

func (n *node) apply() {
	n.t.Helper()
	if err := n.try(n.cfg); err != nil {
		n.t.Fatalf("apply to device %d: %v", n.i, err)
	}
}

func (n *node) try(c tunnel.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return n.dev.Apply(ctx, c)
}

func (n *node) status() tunnel.Status {
	n.t.Helper()
	s, err := n.dev.Status(context.Background())
	if err != nil {
		n.t.Fatalf("status of device %d: %v", n.i, err)
	}
	return s
}

func (n *node) endpoint() netip.AddrPort {
	n.t.Helper()
	return netip.AddrPortFrom(n.p.Underlay(n.i), n.status().ListenPort)
}

// seen is what n knows of o; zero when they are no peers.
func (n *node) seen(o *node) tunnel.PeerStatus {
	n.t.Helper()
	for _, p := range n.status().Peers {
		if p.Key == o.key {
			return p
		}
	}
	return tunnel.PeerStatus{}
}

// await polls until ok, with bounded patience.
func (n *node) await(what string, ok func() bool) {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			n.t.Fatalf("device %d: no %s within %v", n.i, what, patience)
		}
	}
}

func (n *node) listen() net.Listener {
	n.t.Helper()
	return n.listenAt(n.cfg.Addr)
}

func (n *node) listenAt(a netip.Addr) net.Listener {
	n.t.Helper()
	l, err := n.dev.Network().Listen("tcp", netip.AddrPortFrom(a, 0))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	return l
}

func (n *node) packets() net.PacketConn {
	n.t.Helper()
	return n.packetsAt(n.cfg.Addr)
}

func (n *node) packetsAt(a netip.Addr) net.PacketConn {
	n.t.Helper()
	c, err := n.dev.Network().ListenPacket("udp", netip.AddrPortFrom(a, 0))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

func (n *node) dial(to net.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := n.dev.Network().DialContext(ctx, to.Network(), netip.MustParseAddrPort(to.String()))
	if err == nil {
		n.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// send writes one datagram; one that cannot leave counts as lost.
func send(c net.PacketConn, to net.Addr, text string) {
	_, _ = c.WriteTo([]byte(text), to)
}

// receive is the next datagram, or "" after d.
func receive(t *testing.T, c net.PacketConn, d time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	n, _, err := c.ReadFrom(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// exchange sends size bytes from one node to the other and back over TCP,
// ending each direction by itself.
func exchange(from, to *node, size int) error { return exchangeAt(from, to, to.cfg.Addr, size) }

func exchangeAt(from, to *node, at netip.Addr, size int) error {
	l := to.listenAt(at)
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		_, err = io.Copy(c, c)
		served <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
	}()
	c, err := from.dial(l.Addr())
	if err != nil {
		l.Close()
		<-served
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, size))
		sent <- errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
	}()
	n, err := io.Copy(io.Discard, c)
	if err == nil && n != int64(size) {
		err = fmt.Errorf("%d bytes came back of %d", n, size)
	}
	if err != nil {
		c.Close()
	}
	return errors.Join(err, <-sent, <-served)
}

// alone fails the test when it ends with more goroutines of ours or of the
// device's than it began with.
func alone(t *testing.T) {
	before := len(workers())
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if left = workers(); len(left) <= before {
				return
			}
		}
		t.Errorf("%d goroutines left, first:\n%s", len(left)-before, left[len(left)-1])
	})
}

// workers are the stacks of goroutines that a device may have started.
func workers() (out []string) {
	b := make([]byte, 4<<20)
	for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "testing.tRunner") || strings.Contains(g, "testing.(*T)") {
			continue
		}
		for _, of := range []string{"drawbridge/tunnel/", "zx2c4.com/wireguard", "gvisor.dev/gvisor"} {
			if strings.Contains(g, of) {
				out = append(out, g)
				break
			}
		}
	}
	return out
}
