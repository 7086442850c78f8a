package netstack_test

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
)

func TestForwarderKeepsTheWholeWish(t *testing.T) {
	a, b := inMemory(t)
	service := echo(t)
	f := netstack.NewForwarder(netstack.ForwarderOptions{Network: a.Network()})
	f.Set([]tunnel.Forward{{Port: 80, To: service}, {Port: 81, To: service}})
	run(t, f.Run)
	<-f.Ready()
	if diff := cmp.Diff([]uint16{80, 81}, f.Open()); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	big := strings.Repeat("drawbridge ", 50_000) // through all windows, and half-closed
	c, err := dial(b.Network(), at(1, 80))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := talk(t, c, big); err != nil || got != big {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}

	kept, err := dial(b.Network(), at(1, 81))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(kept, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(kept, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	f.Set([]tunnel.Forward{{Port: 80, To: service}})
	eventually(t, "closed port", func() bool { return cmp.Equal([]uint16{80}, f.Open()) })
	if got, err := talk(t, kept, "draining"); err != nil || got != "draining" {
		t.Errorf("open connection of a closed port gave %q, %v", got, err)
	}
	if _, err := dial(b.Network(), at(1, 81)); err == nil {
		t.Error("closed port accepts")
	}
}

func TestForwarderRefuses(t *testing.T) {
	a, b := inMemory(t)
	f := netstack.NewForwarder(netstack.ForwarderOptions{Network: a.Network(), MaxActive: 1})
	nobody := netip.MustParseAddrPort("127.0.0.1:1") // tcpmux: nobody listens
	service := echo(t)
	f.Set([]tunnel.Forward{{Port: 80, To: service}, {Port: 81, To: nobody}})
	run(t, f.Run)
	<-f.Ready()
	refused := func(why string, port uint16) {
		t.Helper()
		c, err := dial(b.Network(), at(1, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read %d bytes", why, n)
		}
	}
	refused("no service", 81)
	eventually(t, "connection", func() bool {
		c, err := dial(b.Network(), at(1, 80))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "x"); err != nil {
			return false // the slot of the refused one is not free yet
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err == nil
	})
	refused("too many", 80)
	f.Only([]netip.Addr{addr(9)})
	refused("stranger", 80)
}

func TestForwarderWaitsForItsDevice(t *testing.T) {
	early := netstack.New(netstack.Options{})
	t.Cleanup(func() { early.Close() })
	f := netstack.NewForwarder(netstack.ForwarderOptions{Network: early.Network()})
	f.Set([]tunnel.Forward{{Port: 80, To: echo(t)}})
	run(t, f.Run)
	<-f.Ready()
	if got := f.Open(); len(got) != 0 {
		t.Fatalf("open without a device: %v", got)
	}
	apply(t, early, wish(1))
	eventually(t, "open port", func() bool { return len(f.Open()) == 1 })
	c, err := dial(early.Network(), at(1, 80))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := talk(t, c, "hello"); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
