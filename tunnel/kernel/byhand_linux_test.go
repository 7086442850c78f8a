package kernel_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/nstest"
	"drawbridge/tunnel/kernel"
)

// setup is two hosts with a tunnel between them.
type setup struct {
	name  string
	s     [2]*nstest.Space
	mbits []float64 // by round, one TCP stream
	p50   []float64 // by round, microseconds of a round trip of 64 bytes
}

var ends = [2]netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.2")}

func newSetup(t *testing.T, name string) *setup {
	h := nstest.Hosts(t)
	return &setup{name: name, s: [2]*nstest.Space{h[0], h[1]}}
}

// ours makes the tunnel by the backend.
func ours(t *testing.T) *setup {
	x := newSetup(t, "kernel backend")
	keys := [2]tunnel.PrivateKey{tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: 1}), tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: 2})}
	for i, s := range x.s {
		d := nstest.Device{Device: kernel.New(kernel.Options{}), In: s}
		t.Cleanup(func() { d.Close() })
		k, err := keys[1-i].Public()
		if err != nil {
			t.Fatal(err)
		}
		c := tunnel.Config{PrivateKey: keys[i], ListenPort: 51820, Addr: ends[i], Mesh: netip.MustParsePrefix("10.77.0.0/16"), MTU: 1420, Peers: []tunnel.Peer{{
			Key: k, Endpoint: netip.AddrPortFrom(nstest.Host(1-i), 51820), AllowedIPs: []netip.Prefix{netip.PrefixFrom(ends[1-i], 32)},
		}}}
		if err := d.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// byHand makes the same by `ip` and `wg`, as their manuals say.
func byHand(t *testing.T) *setup {
	x := newSetup(t, "wg and ip by hand")
	keys := [2]tunnel.PrivateKey{tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: 3}), tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: 4})}
	for i, s := range x.s {
		k, err := keys[1-i].Public()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(keys[i].Base64()), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"ip link add dev wg0 type wireguard",
			"ip address add dev wg0 " + ends[i].String() + "/16",
			fmt.Sprintf("wg set wg0 listen-port 51820 private-key %s peer %v allowed-ips %v/32 endpoint %v:51820", file, k, ends[1-i], nstest.Host(1-i)),
			"ip link set wg0 mtu 1420 up",
		} {
			f := strings.Fields(line)
			s.Must(t, func() error {
				out, err := exec.CommandContext(t.Context(), f[0], f[1:]...).CombinedOutput()
				if err != nil {
					return fmt.Errorf("%s: %w: %s", line, err, out)
				}
				return nil
			})
		}
	}
	return x
}

// round measures once.
func (x *setup) round(t *testing.T) {
	t.Helper()
	var l net.Listener
	var echo net.PacketConn
	x.s[1].Must(t, func() (err error) {
		if l, err = net.Listen("tcp4", netip.AddrPortFrom(ends[1], 0).String()); err == nil {
			echo, err = net.ListenPacket("udp4", netip.AddrPortFrom(ends[1], 0).String())
		}
		return err
	})
	defer l.Close()
	defer echo.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(b[:n], from)
		}
	}()
	x.p50 = append(x.p50, x.ping(t, echo.LocalAddr()))
	x.mbits = append(x.mbits, x.stream(t, l))
}

func (x *setup) dial(t *testing.T, to net.Addr) (c net.Conn) {
	t.Helper()
	x.s[0].Must(t, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err = new(net.Dialer).DialContext(ctx, to.Network()+"4", to.String())
		return err
	})
	return c
}

func (x *setup) ping(t *testing.T, to net.Addr) float64 {
	c := x.dial(t, to)
	defer c.Close()
	var took []float64
	b := make([]byte, 64)
	for range 300 {
		began := time.Now()
		if err := c.SetDeadline(began.Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
		took = append(took, float64(time.Since(began).Microseconds()))
	}
	return median(took)
}

func (x *setup) stream(t *testing.T, l net.Listener) float64 {
	const lasts = time.Second
	c := x.dial(t, l.Addr())
	defer c.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, far)
		got <- n
		far.Close()
	}()
	began := time.Now()
	b := make([]byte, 128<<10)
	for time.Since(began) < lasts {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	n := <-got
	return float64(n) * 8 / 1e6 / time.Since(began).Seconds()
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// TestBesideByHand: what the backend makes is as fast as the same made by
// hand. Rounds alternate, so that both see the same machine; a difference
// counts when it is more than what the rounds of one setup differ by.
func TestBesideByHand(t *testing.T) {
	if os.Getenv(must) != "bench" {
		t.Skip("make bench-kernel runs it")
	}
	need(t)
	const rounds = 15
	a, b := ours(t), byHand(t)
	for i := range rounds {
		order := []*setup{a, b}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, x := range order {
			x.round(t)
		}
	}
	t.Logf("%d rounds each, alternating; median (least to most)", rounds)
	for _, x := range []*setup{a, b} {
		t.Logf("%-18s one TCP stream %.0f Mbit/s (%.0f to %.0f), round trip p50 %.0f us (%.0f to %.0f)", x.name,
			median(x.mbits), slices.Min(x.mbits), slices.Max(x.mbits), median(x.p50), slices.Min(x.p50), slices.Max(x.p50))
	}
	if slices.Max(a.mbits) < slices.Min(b.mbits) {
		t.Error("every round of the backend is slower than every round by hand")
	}
	if slices.Min(a.p50) > slices.Max(b.p50) {
		t.Error("every round trip of the backend is longer than every one by hand")
	}
}
