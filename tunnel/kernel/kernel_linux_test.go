package kernel_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/nstest"
	"drawbridge/tunnel/kernel"
	"drawbridge/tunnel/tunneltest"
	"drawbridge/tunnel/userspace"
)

// must is set by `make test-kernel`, where a skip would be a lie.
const must = "DRAWBRIDGE_KERNEL"

func TestMain(m *testing.M) { nstest.Main(m) }

// need skips where the kernel has no WireGuard, with the reason.
func need(t testing.TB) {
	t.Helper()
	if os.Getenv(must) == "" {
		nstest.Need(t)
	}
	var err error
	nstest.NewSpace(t).Do(func() { err = kernel.Available() })
	if err != nil && os.Getenv(must) != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("%v; make test-kernel boots one that has it", err)
	}
}

func TestContract(t *testing.T) {
	need(t)
	tunneltest.Contract(t, nstest.Pair(t, kernel.DefaultInterface, func(int) tunnel.Device {
		return kernel.New(kernel.Options{})
	}))
}

func key(t *testing.T, n byte) tunnel.Key {
	t.Helper()
	k, err := tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{1: n}).Public()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// wish has the two peers 1 and 2.
func wish(t *testing.T) tunnel.Config {
	t.Helper()
	return tunnel.Config{
		PrivateKey: tunnel.PrivateKeyOf(&[tunnel.KeyLen]byte{8}), Addr: netip.MustParseAddr("10.77.0.1"), Mesh: netip.MustParsePrefix("10.77.0.0/16"),
		Peers: []tunnel.Peer{
			{Key: key(t, 1), AllowedIPs: prefixes("10.77.0.2/32", "10.77.0.9/32"), Endpoint: netip.MustParseAddrPort("127.0.0.1:9")},
			{Key: key(t, 2), AllowedIPs: prefixes("10.77.0.3/32"), Endpoint: netip.MustParseAddrPort("127.0.0.1:9"), Keepalive: 25 * time.Second},
		},
	}
}

// device is a kernel device in a namespace of its own, with its wish applied.
func device(t *testing.T) (nstest.Device, *nstest.Space) {
	t.Helper()
	need(t)
	s := nstest.NewSpace(t)
	d := nstest.Device{Device: kernel.New(kernel.Options{}), In: s}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if left := s.Leftovers(t); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	if err := d.Apply(t.Context(), wish(t)); err != nil {
		t.Fatal(err)
	}
	return d, s
}

func TestInterfaceInUse(t *testing.T) {
	_, s := device(t)
	b := nstest.Device{Device: kernel.New(kernel.Options{}), In: s}
	defer b.Close()
	c := nstest.Device{Device: userspace.New(userspace.Options{}), In: s}
	defer c.Close()
	for name, d := range map[string]tunnel.Device{"kernel": b, "tun": c} {
		if err := d.Apply(t.Context(), wish(t)); err == nil || !strings.Contains(err.Error(), "another process holds it") {
			t.Errorf("second device (%s) on the same interface: %v", name, err)
		}
	}
	s.Do(func() {
		if _, err := kernel.Cleanup(kernel.DefaultInterface); err == nil {
			t.Error("cleaned up under a living device")
		}
	})
}

func TestRemovedInterfaceIsMadeAgain(t *testing.T) {
	d, s := device(t)
	s.Must(t, func() error { return nstest.Remove(kernel.DefaultInterface) })
	if _, err := d.Status(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("status without the interface: %v", err)
	}
	if err := d.Apply(t.Context(), wish(t)); err != nil {
		t.Fatal(err)
	}
	st, err := d.Status(t.Context())
	if err != nil || len(st.Peers) != 2 || st.MTU != tunnel.DefaultMTU || st.Backend != tunnel.Kernel {
		t.Errorf("status %+v, %v", st, err)
	}
}

// Every backend clears what another one left after a kill.
func TestLeftOversOfEitherBackend(t *testing.T) {
	need(t)
	s := nstest.NewSpace(t)
	for name, left := range map[string]func() error{
		"tun":              func() error { return nstest.LeaveTUN(kernel.DefaultInterface) },
		"wireguard":        func() error { return link.Make(kernel.DefaultInterface) },
		"nothing was left": func() error { return nil },
	} {
		for backend, make := range map[string]func() tunnel.Device{
			"kernel": func() tunnel.Device { return kernel.New(kernel.Options{}) },
			"tun":    func() tunnel.Device { return userspace.New(userspace.Options{}) },
		} {
			s.Must(t, left)
			d := nstest.Device{Device: make(), In: s}
			if err := d.Apply(t.Context(), wish(t)); err != nil {
				t.Errorf("%s after %s: %v", backend, name, err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("%s after %s: %v", backend, name, err)
			}
			if left := s.Leftovers(t); len(left) > 0 {
				t.Errorf("%s after %s left %v", backend, name, left)
			}
		}
		s.Must(t, left)
		s.Must(t, func() error { _, err := kernel.Cleanup(kernel.DefaultInterface); return err })
		if left := s.Leftovers(t); len(left) > 0 {
			t.Errorf("cleanup after %s left %v", name, left)
		}
	}
}

func TestForeignInterfaceIsRefused(t *testing.T) {
	need(t)
	s := nstest.NewSpace(t)
	s.Must(t, func() error { return nstest.ForeignWireGuard(kernel.DefaultInterface) })
	for name, d := range map[string]tunnel.Device{"kernel": kernel.New(kernel.Options{}), "tun": userspace.New(userspace.Options{})} {
		d := nstest.Device{Device: d, In: s}
		if err := d.Apply(t.Context(), wish(t)); err == nil || !strings.Contains(err.Error(), "not ours") {
			t.Errorf("%s on the WireGuard interface of somebody else: %v", name, err)
		}
		d.Close()
	}
	s.Do(func() {
		if _, err := kernel.Cleanup(kernel.DefaultInterface); err == nil {
			t.Error("removed the WireGuard interface of somebody else")
		}
		if kind, err := link.Find(kernel.DefaultInterface); err != nil || kind != link.Foreign {
			t.Errorf("the foreign interface is %q now, %v", kind, err)
		}
	})
}

// configure changes the device behind the agent's back.
func configure(t *testing.T, s *nstest.Space, c wgtypes.Config) {
	t.Helper()
	s.Must(t, func() error {
		w, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer w.Close()
		return w.ConfigureDevice(kernel.DefaultInterface, c)
	})
}

func read(t *testing.T, s *nstest.Space) (d *wgtypes.Device) {
	t.Helper()
	s.Must(t, func() error {
		w, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer w.Close()
		d, err = w.Device(kernel.DefaultInterface)
		return err
	})
	return d
}

func TestChangesByHandAreUndone(t *testing.T) {
	d, s := device(t)
	zero := time.Duration(0)
	_, wide, _ := net.ParseCIDR("10.77.0.0/24")
	configure(t, s, wgtypes.Config{Peers: []wgtypes.PeerConfig{
		{PublicKey: wgtypes.Key(key(t, 1)), Remove: true},
		{PublicKey: wgtypes.Key(key(t, 2)), PersistentKeepaliveInterval: &zero, AllowedIPs: []net.IPNet{*wide}},
		{PublicKey: wgtypes.Key(key(t, 3))},
	}})
	if err := d.Apply(t.Context(), wish(t)); err != nil {
		t.Fatal(err)
	}
	got := map[tunnel.Key]int{}
	for _, p := range read(t, s).Peers {
		got[tunnel.Key(p.PublicKey)] = len(p.AllowedIPs)
		if p.PublicKey == wgtypes.Key(key(t, 2)) && p.PersistentKeepaliveInterval != 25*time.Second {
			t.Errorf("keepalive %v", p.PersistentKeepaliveInterval)
		}
	}
	if len(got) != 2 || got[key(t, 1)] != 2 || got[key(t, 2)] != 1 {
		t.Errorf("prefixes by peer: %v", got)
	}
}

// An address that stays, or moves, always has an owner: the kernel answers a
// packet to an address without one with ENOKEY.
func TestAddressAlwaysHasAnOwner(t *testing.T) {
	d, s := device(t)
	var c net.Conn
	s.Must(t, func() (err error) { c, err = net.Dial("udp4", "10.77.0.9:9"); return err })
	defer c.Close()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		sent := 0
		for {
			select {
			case <-stop:
				if sent < 100 {
					done <- errors.New("sent too little to see anything")
				}
				done <- nil
				return
			default:
			}
			sent++
			if _, err := c.Write([]byte("x")); errors.Is(err, syscall.ENOKEY) {
				done <- err
				return
			}
		}
	}()
	w := wish(t)
	one, two := w.Peers[0].AllowedIPs, w.Peers[1].AllowedIPs
	for i := range 45 {
		switch i % 3 {
		case 0: // the peer's other address goes
			w.Peers[0].AllowedIPs = one[1:]
		case 1: // it moves
			w.Peers[0].AllowedIPs, w.Peers[1].AllowedIPs = one[:1], append(two[:1:1], one[1])
		case 2: // and back, and the first comes again
			w.Peers[0].AllowedIPs, w.Peers[1].AllowedIPs = one, two
		}
		if err := d.Apply(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("an address had no owner for a moment: %v", err)
	}
	if got := len(read(t, s).Peers); got != 2 {
		t.Errorf("%d peers, want 2: the one that nobody is must be gone", got)
	}
}

func TestThousandPeers(t *testing.T) {
	d, s := device(t)
	w := wish(t)
	w.Peers = nil
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 77, byte(1 + i>>8), byte(i)})
		w.Peers = append(w.Peers, tunnel.Peer{Key: tunnel.Key{9, byte(i), byte(i >> 8)}, AllowedIPs: []netip.Prefix{netip.PrefixFrom(a, 32)}})
	}
	began := time.Now()
	if err := d.Apply(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	all := time.Since(began)
	w.Peers = append(w.Peers, wish(t).Peers...)
	began = time.Now()
	if err := d.Apply(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	t.Logf("1000 peers in %v, 2 more in %v", all, time.Since(began))
	if got := len(read(t, s).Peers); got != 1002 {
		t.Errorf("%d peers", got)
	}
	for i := range w.Peers { // longer lists than one message takes
		w.Peers[i].AllowedIPs = nil
		if i < 40 { // the kernel waits for all its processors at each removal
			w.Peers[i].Epoch++
		}
	}
	w.Peers[0].AllowedIPs = prefixes("10.77.200.0/24")
	began = time.Now()
	if err := d.Apply(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	t.Logf("40 peers of a new epoch, 1002 prefixes less in %v", time.Since(began))
	n := 0
	for _, p := range read(t, s).Peers {
		n += len(p.AllowedIPs)
		if p.PersistentKeepaliveInterval != 0 && p.PublicKey != wgtypes.Key(key(t, 2)) {
			t.Errorf("keepalive %v stayed on", p.PersistentKeepaliveInterval)
		}
	}
	if n != 1 {
		t.Errorf("%d prefixes, want 1", n)
	}
}
