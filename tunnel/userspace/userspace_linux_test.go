package userspace_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/nstest"
	"drawbridge/tunnel/tunneltest"
	"drawbridge/tunnel/userspace"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// needTUN skips where no TUN can be made, with the reason.
func needTUN(t testing.TB) {
	t.Helper()
	nstest.Need(t)
	if err := userspace.Available(); err != nil {
		t.Skip(err)
	}
}

func TestContract(t *testing.T) {
	needTUN(t)
	tunneltest.Contract(t, nstest.Pair(t, userspace.DefaultInterface, func(int) tunnel.Device {
		return userspace.New(userspace.Options{})
	}))
}

func wish() tunnel.Config {
	return tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{8}), Addr: netip.MustParseAddr("10.77.0.1"), Mesh: netip.MustParsePrefix("10.77.0.0/16")}
}

func TestInterfaceInUse(t *testing.T) {
	needTUN(t)
	s := nstest.NewSpace(t)
	a := nstest.Device{Device: userspace.New(userspace.Options{}), In: s}
	b := nstest.Device{Device: userspace.New(userspace.Options{}), In: s}
	defer b.Close()
	defer a.Close()
	if err := a.Apply(t.Context(), wish()); err != nil {
		t.Fatal(err)
	}
	err := b.Apply(t.Context(), wish())
	if err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("second device on the same interface: %v", err)
	}
}

func TestRemovedInterfaceIsMadeAgain(t *testing.T) {
	needTUN(t)
	s := nstest.NewSpace(t)
	d := nstest.Device{Device: userspace.New(userspace.Options{}), In: s}
	defer d.Close()
	if err := d.Apply(t.Context(), wish()); err != nil {
		t.Fatal(err)
	}
	s.Must(t, func() error {
		if _, err := userspace.Cleanup(userspace.DefaultInterface); err == nil {
			t.Error("cleaned up under a living device")
		}
		return nstest.Remove(userspace.DefaultInterface)
	})
	s.Must(t, func() error { _, err := userspace.Cleanup(userspace.DefaultInterface); return err }) // nothing there is fine
	var err error
	for range 1000 { // the device notices by itself
		if err = d.Apply(t.Context(), wish()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := d.Status(t.Context())
	if err != nil || st.MTU != tunnel.DefaultMTU {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestLeftOverAndForeignInterfaces(t *testing.T) {
	needTUN(t)
	s := nstest.NewSpace(t)
	s.Must(t, func() error { return nstest.LeaveTUN(userspace.DefaultInterface) })
	d := nstest.Device{Device: userspace.New(userspace.Options{}), In: s}
	if err := d.Apply(t.Context(), wish()); err != nil {
		t.Fatalf("left-over interface: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	s.Must(t, func() error {
		kind, err := link.Find(userspace.DefaultInterface)
		if err == nil && kind != link.None {
			err = errors.New("the left-over interface is still there after Close")
		}
		return err
	})

	nstest.Link(t, s, "foreign0", netip.MustParsePrefix("192.0.2.1/24"), nstest.NewSpace(t), "x", netip.MustParsePrefix("192.0.2.2/24"))
	f := nstest.Device{Device: userspace.New(userspace.Options{Interface: "foreign0"}), In: s}
	if err := f.Apply(t.Context(), wish()); err == nil {
		t.Error("took over an interface that is no TUN")
	}
	f.Close()
	s.Do(func() {
		if _, err := userspace.Cleanup("foreign0"); err == nil {
			t.Error("removed an interface that is no TUN")
		}
	})
}

func TestClashAndForward(t *testing.T) {
	needTUN(t)
	s, other := nstest.NewSpace(t), nstest.NewSpace(t)
	nstest.Link(t, s, "eth0", netip.MustParsePrefix("192.0.2.1/24"), other, "eth0", netip.MustParsePrefix("192.0.2.2/24"))
	c := wish()
	c.Addr, c.Mesh = netip.MustParseAddr("192.0.2.129"), netip.MustParsePrefix("192.0.2.128/25")
	d := nstest.Device{Device: userspace.New(userspace.Options{Forward: true}), In: s}
	defer d.Close()
	if err := d.Apply(t.Context(), c); !errors.Is(err, tunnel.ErrPrefixClash) || !strings.Contains(err.Error(), "eth0") {
		t.Fatalf("clash: %v", err)
	}
	if err := d.Apply(t.Context(), wish()); err != nil {
		t.Fatal(err)
	}
	s.Must(t, func() error { return userspace.Clash(userspace.DefaultInterface, wish().Mesh) })
	s.Do(func() {
		if err := userspace.Clash("eth9", wish().Mesh); !errors.Is(err, tunnel.ErrPrefixClash) {
			t.Errorf("clash with the route of our interface, asked by another: %v", err)
		}
	})
	for name, want := range map[string]string{"eth0/forwarding": "1", "drawbridge0/forwarding": "1", "drawbridge0/rp_filter": "2", "all/forwarding": "0"} {
		if got := strings.TrimSpace(s.Sysctl(t, "net/ipv4/conf/"+name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestNoDevice(t *testing.T) {
	nstest.Need(t)
	if _, err := os.Stat("/dev/net/tun"); err == nil {
		t.Skip("this host has /dev/net/tun")
	}
	if err := userspace.Available(); !errors.Is(err, tunnel.ErrNoPrivilege) {
		t.Errorf("Available = %v, want ErrNoPrivilege", err)
	}
}
