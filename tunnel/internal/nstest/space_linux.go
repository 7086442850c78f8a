package nstest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Space is a network namespace with a thread that lives in it.
type Space struct {
	calls chan func()
	ns    netns.NsHandle
}

// NewSpace makes an empty namespace, its loopback up, that ends with the test.
func NewSpace(t testing.TB) *Space {
	t.Helper()
	Need(t)
	s := &Space{calls: make(chan func())}
	made := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.ns, err = netns.Get()
		}
		if err == nil {
			err = up("lo")
		}
		made <- err
		if err != nil {
			return
		}
		for f := range s.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(s.calls)
		<-done
		_ = s.ns.Close()
	})
	return s
}

// Do runs f on the namespace's thread: sockets, interfaces and settings that f
// opens are those of the namespace. Goroutines that f starts are not in it.
func (s *Space) Do(f func()) {
	done := make(chan any)
	s.calls <- func() {
		defer func() { done <- recover() }()
		f()
	}
	if r := <-done; r != nil {
		panic(r)
	}
}

// Must is Do for what may fail.
func (s *Space) Must(t testing.TB, f func() error) {
	t.Helper()
	var err error
	s.Do(func() { err = f() })
	if err != nil {
		t.Fatal(err)
	}
}

// Link joins two namespaces by a cable, with an interface of the given name
// and address at each end.
func Link(t testing.TB, a *Space, nameA string, addrA netip.Prefix, b *Space, nameB string, addrB netip.Prefix) {
	t.Helper()
	a.Must(t, func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.ns)}
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("add cable: %w", err)
		}
		return setUp(nameA, addrA)
	})
	b.Must(t, func() error { return setUp(nameB, addrB) })
}

// Route adds a route in the namespace.
func (s *Space) Route(t testing.TB, dst netip.Prefix, via netip.Addr, name string) {
	t.Helper()
	s.Must(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(dst)}
		if via.IsValid() {
			r.Gw = via.AsSlice()
		} else {
			r.Scope = netlink.SCOPE_LINK
		}
		return netlink.RouteAdd(r)
	})
}

// Sysctl reads a setting below /proc/sys in the namespace.
func (s *Space) Sysctl(t testing.TB, name string) string {
	t.Helper()
	var b []byte
	s.Must(t, func() (err error) { b, err = os.ReadFile("/proc/sys/" + name); return err })
	return string(b)
}

func setUp(name string, addr netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
