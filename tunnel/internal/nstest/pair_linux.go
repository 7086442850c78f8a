package nstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/tunneltest"
)

// Host is the underlay address of host i of [Hosts].
func Host(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}) }

// Hosts are three namespaces, each joined to both others by a cable.
func Hosts(t testing.TB) (s [3]*Space) {
	t.Helper()
	for i := range s {
		s[i] = NewSpace(t)
	}
	for i := range s {
		for j := i + 1; j < len(s); j++ {
			ni, nj := fmt.Sprintf("to%d", j), fmt.Sprintf("to%d", i)
			Link(t, s[i], ni, netip.PrefixFrom(Host(i), 32), s[j], nj, netip.PrefixFrom(Host(j), 32))
			s[i].Route(t, netip.PrefixFrom(Host(j), 32), netip.Addr{}, ni)
			s[j].Route(t, netip.PrefixFrom(Host(i), 32), netip.Addr{}, nj)
		}
	}
	return s
}

// Pair is the contract's for devices that have an interface of this name.
func Pair(t testing.TB, iface string, make func(i int) tunnel.Device) tunneltest.Pair {
	t.Helper()
	s := Hosts(t)
	return tunneltest.Pair{
		New:      func(_ *testing.T, i int) tunnel.Device { return Device{Device: make(i), In: s[i]} },
		Underlay: Host,
		Port: func(t *testing.T, i int) (uint16, func()) {
			var c net.PacketConn
			s[i].Must(t, func() (err error) { c, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp", ":0"); return err })
			var once sync.Once
			return uint16(c.LocalAddr().(*net.UDPAddr).Port), func() { once.Do(func() { c.Close() }) }
		},
		MTU: func(t *testing.T, i int) (mtu int) {
			s[i].Must(t, func() (err error) { mtu, err = link.MTU(iface); return err })
			return mtu
		},
		Path: func(t *testing.T, i int, dst netip.Addr) (mtu int) {
			s[i].Must(t, func() (err error) { mtu, err = pathMTU(dst); return err })
			return mtu
		},
		Behind: func(t *testing.T, i int, at netip.Addr) netip.AddrPort { return s[i].echo(t, at) },
		Left: func(t *testing.T, i int) (left string) {
			s[i].Must(t, func() error {
				kind, err := link.Find(iface)
				if kind != link.None {
					left = "its interface"
				}
				return err
			})
			return left
		},
	}
}

// pathMTU is the MTU that the kernel takes for a destination: the route's, or
// the interface's.
func pathMTU(dst netip.Addr) (int, error) {
	rs, err := netlink.RouteGet(dst.AsSlice())
	if err != nil || len(rs) == 0 {
		return 0, fmt.Errorf("look up route to %v: %w", dst, err)
	}
	if rs[0].MTU > 0 {
		return rs[0].MTU, nil
	}
	l, err := netlink.LinkByIndex(rs[0].LinkIndex)
	if err != nil {
		return 0, err
	}
	return l.Attrs().MTU, nil
}

// echo gives the namespace a further address and serves there what comes.
func (s *Space) echo(t testing.TB, at netip.Addr) netip.AddrPort {
	var l net.Listener
	s.Must(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(at, at.BitLen()))}
		if at.Is6() {
			a.Flags = unix.IFA_F_NODAD // to be used at once
		}
		if err := netlink.AddrReplace(lo, a); err != nil {
			return err
		}
		if err := link.AwaitLocal(at); err != nil {
			return err
		}
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(at, 0).String())
		return err
	})
	var serving sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { c.Close() })
			serving.Go(func() {
				_, _ = io.Copy(c, c)
				stop()
				c.Close()
			})
		}
	})
	t.Cleanup(func() { end(); l.Close(); serving.Wait() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// Remove takes an interface away, whosever it is.
func Remove(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// Leftovers names what hangs in the namespace besides loopback and cables:
// interfaces, their addresses, routes of ours.
func (s *Space) Leftovers(t testing.TB) (left []string) {
	t.Helper()
	s.Must(t, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if _, cable := l.(*netlink.Veth); !cable && l.Attrs().Name != "lo" {
				left = append(left, "interface "+l.Attrs().Name)
			}
		}
		routes, err2 := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: link.Protocol}, netlink.RT_FILTER_PROTOCOL)
		for _, r := range routes {
			left = append(left, "route "+r.String())
		}
		return errors.Join(err, err2)
	})
	return left
}

// LeaveTUN makes a TUN that outlives its maker, and made otherwise than ours.
func LeaveTUN(name string) error {
	return netlink.LinkAdd(&netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		Mode:      netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS, Queues: 1,
	})
}

// ForeignWireGuard makes a WireGuard interface as somebody else would.
func ForeignWireGuard(name string) error {
	return netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}})
}
