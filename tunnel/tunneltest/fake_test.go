package tunneltest

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"drawbridge/tunnel"
)

// memory is a Pair on one Underlay.
func memory() Pair {
	u := NewUnderlay()
	host := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 255, byte(i)}) }
	return Pair{
		New:      func(_ *testing.T, i int) tunnel.Device { return u.Device(Options{Host: host(i)}) },
		Underlay: host,
		Port: func(t *testing.T, i int) (uint16, func()) {
			d := u.Device(Options{Host: host(i)})
			n := &node{t: t, dev: d, cfg: tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{byte(i + 1)}), Mesh: overlay, Addr: overlay.Addr().Next()}}
			n.apply()
			return n.status().ListenPort, func() { d.Close() }
		},
	}
}

func TestContractMemory(t *testing.T) { Contract(t, memory()) }

// chain is two servers that reach each other through a gateway.
func chain(t *testing.T) (u *Underlay, gateway, left, right *node) {
	u = NewUnderlay()
	var devices []*Device
	p := Pair{
		New: func(_ *testing.T, i int) tunnel.Device {
			devices = append(devices, u.Device(Options{Forward: i == 0}))
			return devices[i]
		},
		Underlay: func(i int) netip.Addr { return devices[i].Host() },
	}
	gateway, left, right = newNode(t, p, 0), newNode(t, p, 1), newNode(t, p, 2)
	join(gateway, left)
	join(gateway, right)
	for _, n := range []*node{left, right} {
		n.cfg.Peers[0].AllowedIPs = []netip.Prefix{overlay}
		n.apply()
	}
	return u, gateway, left, right
}

func TestRelay(t *testing.T) {
	_, _, left, right := chain(t)
	if err := exchange(left, right, 1<<20); err != nil {
		t.Fatal(err)
	}
}

func TestCutStallsAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, gateway, left, right := chain(t)
		l := right.listen()
		c, err := left.dial(l.Addr())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		u.Cut(gateway.dev.(*Device), right.dev.(*Device))
		pr, pl := right.packets(), left.packets()
		send(pl, pr.LocalAddr(), "lost")
		if got := receive(t, pr, time.Hour); got != "" {
			t.Errorf("received %q through a cut", got)
		}
		done := make(chan error, 1)
		go func() { _, err := c.Write([]byte("late")); done <- err }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("write through a cut returned %v", err)
		default:
		}
		before := gateway.seen(right).LastHandshake
		u.Heal(gateway.dev.(*Device), right.dev.(*Device))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8)
		if n, err := s.Read(b); err != nil || string(b[:n]) != "late" {
			t.Fatalf("read %q, %v", b[:n], err)
		}
		time.Sleep(10 * time.Minute) // virtual
		if age := time.Since(right.seen(gateway).LastHandshake); age >= rekey {
			t.Errorf("handshake of a living session is %v old", age)
		}
		if !gateway.seen(right).LastHandshake.After(before) {
			t.Error("no new handshake after the cut")
		}
		c.Close()
		s.Close()
	})
}
