package nft

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/nstest"
)

// tryout is a handful of namespaces with filters.
type tryout struct{ *testing.T }

func (t tryout) filter(s *nstest.Space, f tunnel.Filter) {
	t.Helper()
	s.Must(t, func() error { return New(Options{}).Apply(t.Context(), f) })
}

func (t tryout) passes(why string, from *nstest.Space, to, as string) {
	t.Helper()
	if seen, _, err := ask(from, to, patience); err != nil || seen != as {
		t.Errorf("%s: seen as %q, %v; want %s", why, seen, err, as)
	}
}

func (t tryout) drops(why string, from *nstest.Space, to string) {
	t.Helper()
	if seen, _, err := ask(from, to, silence); err == nil {
		t.Errorf("%s: passed, seen as %q", why, seen)
	}
}

// six gives interfaces the IPv6 overlay addresses that go with the IPv4 ones. A
// tunnel has no neighbours to look for, so here they are known.
func six(t *testing.T, spaces []*nstest.Space, filters ...tunnel.Filter) {
	t.Helper()
	macs := make([]net.HardwareAddr, len(spaces))
	for i, s := range spaces {
		s.Must(t, func() error {
			l, err := netlink.LinkByName("drawbridge0")
			if err != nil {
				return err
			}
			macs[i] = l.Attrs().HardwareAddr
			return netlink.AddrAdd(l, &netlink.Addr{
				IPNet: &net.IPNet{IP: filters[i].Self6.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD,
			})
		})
	}
	for i, s := range spaces {
		s.Must(t, func() error {
			l, err := netlink.LinkByName("drawbridge0")
			for j := range spaces {
				if j != i && err == nil {
					err = netlink.NeighSet(&netlink.Neigh{
						LinkIndex: l.Attrs().Index, Family: netlink.FAMILY_V6, State: netlink.NUD_PERMANENT,
						IP: filters[j].Self6.AsSlice(), HardwareAddr: macs[j],
					})
				}
			}
			return err
		})
	}
}

// TestIPv6Overlay: the same rules in the other family, and what IPv6 needs
// besides.
func TestIPv6Overlay(t *testing.T) {
	needNFT(t)
	x := tryout{t}
	gw, srv, two := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	cable(t, gw, srv, two)
	fg, fs, f2 := dual(gateway()), dual(server()), dual(server())
	f2.Self = netip.MustParseAddr("10.77.0.3")
	f2 = dual(f2)
	f2.MTU = 1280
	six(t, []*nstest.Space{gw, srv, two}, fg, fs, f2)
	at := func(f tunnel.Filter, port string) string { return "[" + f.Self6.String() + "]:" + port }
	for _, port := range []string{"8080", "9090", "7946"} {
		listen(t, srv, at(fs, port))
	}
	listen(t, gw, at(fg, "8080"))
	x.passes("without filters", two, at(fs, "9090"), f2.Self6.String())
	// A neighbour in the underlay.
	near := nstest.NewSpace(t)
	nstest.Link(t, near, "eth0", pre("2001:db8::2/64"), srv, "eth0", pre("2001:db8::1/64"))
	near.Route(t, fs.Mesh6, netip.MustParseAddr("2001:db8::1"), "eth0")
	nstest.Link(t, near, "eth1", pre("2001:db8:1::2/64"), gw, "eth1", pre("2001:db8:1::1/64"))
	near.Route(t, netip.PrefixFrom(fg.Self6, 128), netip.MustParseAddr("2001:db8:1::1"), "eth1")
	for _, to := range []string{at(fs, "7946"), at(fg, "8080")} {
		for until := time.Now().Add(patience); ; { // its addresses are tentative for a while
			_, _, err := ask(near, to, silence)
			if err == nil {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("without filters: %v", err)
			}
		}
	}
	x.filter(gw, fg)
	x.filter(srv, fs)

	x.passes("service from a gateway", gw, at(fs, "8080"), fg.Self6.String())
	x.passes("control port from the mesh", two, at(fs, "7946"), f2.Self6.String())
	x.drops("service from a member that is no gateway", two, at(fs, "8080"))
	x.drops("no service, from a gateway", gw, at(fs, "9090"))

	x.drops("overlay address from the underlay", near, at(fs, "7946"))
	x.drops("a gateway's overlay address from the underlay", near, at(fg, "8080"))
}

// TestPacketTooBigPasses: a router on the way says that a packet is too big for
// it; the sender, which drops what it does not know, must hear that.
func TestPacketTooBigPasses(t *testing.T) {
	needNFT(t)
	x := tryout{t}
	gw, srv := nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	nstest.Link(t, gw, "drawbridge0", pre("10.77.0.1/16"), srv, "drawbridge0", pre("10.77.0.2/16"))
	fg, fs := dual(gateway()), dual(server())
	six(t, []*nstest.Space{gw, srv}, fg, fs)
	far := tunnel.Addr6(fg.Mesh6, netip.MustParseAddr("10.77.0.3"))
	nstest.Link(t, gw, "narrow", pre("2001:db8::1/64"), nstest.NewSpace(t), "eth0", pre("2001:db8::2/64"))
	gw.Must(t, func() error {
		narrow, err := netlink.LinkByName("narrow")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(narrow, 1280); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: narrow.Attrs().Index, Dst: &net.IPNet{IP: far.AsSlice(), Mask: net.CIDRMask(128, 128)}})
	})
	gw.Must(t, forward6)
	srv.Route(t, netip.PrefixFrom(far, 128), fg.Self6, "drawbridge0")
	x.filter(srv, fs)

	var c net.Conn
	srv.Must(t, func() (err error) {
		c, err = net.DialUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(fs.Self6, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(far, 9)))
		return err
	})
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		_, _ = c.Write(make([]byte, 1400))
		mtu := 0
		raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU) })
		if err != nil {
			t.Fatal(err)
		}
		if mtu == 1280 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sender still believes in an MTU of %d", mtu)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestSegmentsFollowRoutes: a route that knows a smaller MTU than the device
// counts, in both directions and both families.
func TestSegmentsFollowRoutes(t *testing.T) {
	needNFT(t)
	x := tryout{t}
	client, gw, srv := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	nstest.Link(t, client, "eth0", pre("198.51.100.2/24"), gw, "eth0", pre("198.51.100.1/24"))
	nstest.Link(t, gw, "drawbridge0", pre("10.77.0.1/16"), srv, "drawbridge0", pre("10.77.0.2/16"))
	client.Route(t, pre("10.77.0.0/16"), netip.MustParseAddr("198.51.100.1"), "eth0")
	gw.Must(t, func() error { _, err := link.Forward("drawbridge0"); return err })
	gw.Must(t, func() error {
		l, err := netlink.LinkByName("drawbridge0")
		if err != nil {
			return err
		}
		to := &net.IPNet{IP: net.IPv4(10, 77, 0, 2).To4(), Mask: net.CIDRMask(32, 32)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK, MTU: 1100})
	})
	x.filter(gw, gateway())
	told := make(chan int, 1)
	var l net.Listener
	srv.Must(t, func() (err error) { l, err = net.Listen("tcp4", "10.77.0.2:8080"); return err })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		raw, _ := c.(*net.TCPConn).SyscallConn()
		raw.Control(func(fd uintptr) {
			mss, _ := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
			told <- mss
		})
		c.Close()
	}()
	defer l.Close()
	_, mss, err := ask(client, "10.77.0.2:8080", patience)
	if err != nil || mss > 1060 || mss < 1000 {
		t.Errorf("the client sends segments of %d, %v; want the route's 1100 less 40, and perhaps 12 for timestamps", mss, err)
	}
	if mss := <-told; mss > 1060 || mss < 1000 {
		t.Errorf("the server sends segments of %d; want the route's 1100 less 40, and perhaps 12 for timestamps", mss)
	}
}

// TestTwoGatewaysAtOnce: two gateways forward to the same server. It knows the
// way to neither client; each answer finds back through the gateway that it
// came by, since that one put its own address on the question.
func TestTwoGatewaysAtOnce(t *testing.T) {
	needNFT(t)
	x := tryout{t}
	c1, c2, a, b, srv := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	cable(t, a, srv, b) // a has .1, the server .2, b .3
	// The clients even have the same address: only the gateways tell them apart.
	for _, v := range []struct{ client, gw *nstest.Space }{{c1, a}, {c2, b}} {
		nstest.Link(t, v.client, "eth0", pre("198.51.100.2/24"), v.gw, "eth0", pre("198.51.100.1/24"))
		v.client.Route(t, pre("10.77.0.0/16"), netip.MustParseAddr("198.51.100.1"), "eth0")
		v.gw.Must(t, func() error { _, err := link.Forward("drawbridge0"); return err })
	}
	both := []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.3")}
	fa, fb, fs := gateway(), gateway(), server()
	fb.Self = netip.MustParseAddr("10.77.0.3")
	fa.Gateways, fb.Gateways, fs.Gateways = both, both, both
	x.filter(a, fa)
	x.filter(b, fb)
	x.filter(srv, fs)
	var l net.Listener
	srv.Must(t, func() (err error) { l, err = net.Listen("tcp4", "10.77.0.2:8080"); return err })
	defer l.Close()

	var near, far [2]net.Conn
	for i, s := range []*nstest.Space{c1, c2} {
		var err error
		s.Do(func() { near[i], err = net.DialTimeout("tcp4", "10.77.0.2:8080", patience) })
		if err != nil {
			t.Fatal(err)
		}
		defer near[i].Close()
		if far[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer far[i].Close()
		if got, _ := netip.ParseAddrPort(far[i].RemoteAddr().String()); got.Addr() != both[i] {
			t.Errorf("connection %d is seen as %s, want %s", i+1, got.Addr(), both[i])
		}
	}
	for i := range near { // both are open: each carries its own
		far[i].Write([]byte{byte('1' + i)})
	}
	for i := range near {
		buf := make([]byte, 1)
		near[i].SetDeadline(time.Now().Add(patience))
		if _, err := near[i].Read(buf); err != nil || buf[0] != byte('1'+i) {
			t.Errorf("client %d got %q, %v", i+1, buf, err)
		}
	}
}

// TestSubnetBehindServer: a machine without an agent, in a network behind a
// server that advertises it. It has no route to anything but its own network.
func TestSubnetBehindServer(t *testing.T) {
	needNFT(t)
	x := tryout{t}
	client, gw, srv, two, box := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	cable(t, gw, srv, two)
	nstest.Link(t, client, "eth0", pre("198.51.100.2/24"), gw, "eth0", pre("198.51.100.1/24"))
	nstest.Link(t, srv, "eth1", pre("192.168.20.1/24"), box, "eth0", pre("192.168.20.7/24"))
	client.Route(t, pre("192.168.20.0/24"), netip.MustParseAddr("198.51.100.1"), "eth0")
	for _, s := range []*nstest.Space{gw, two} {
		s.Route(t, pre("192.168.20.0/24"), netip.MustParseAddr("10.77.0.2"), "drawbridge0")
	}
	for _, s := range []*nstest.Space{gw, srv} {
		s.Must(t, func() error { _, err := link.Forward("drawbridge0"); return err })
	}
	listen(t, box, "192.168.20.7:443")
	listen(t, srv, "192.168.20.1:8443")
	listen(t, gw, "10.77.0.1:7946")
	x.filter(gw, gateway())
	x.filter(srv, advertising())
	x.passes("from the VPC", client, "192.168.20.7:443", "192.168.20.1")
	x.passes("from the gateway itself", gw, "192.168.20.7:443", "192.168.20.1")
	x.drops("from a member that is no gateway", two, "192.168.20.7:443")
	x.drops("the server's own address in the subnet", gw, "192.168.20.1:8443")
	box.Route(t, pre("10.77.0.0/16"), netip.MustParseAddr("192.168.20.1"), "eth0")
	x.drops("from the subnet into the mesh", box, "10.77.0.1:7946")

	x.filter(srv, server())
	x.drops("a subnet that is advertised no more", client, "192.168.20.7:443")
}

// cable joins namespaces by one switch, at which they have an interface named
// like the device and the addresses 10.77.0.1, .2, and so on.
func cable(t *testing.T, spaces ...*nstest.Space) {
	t.Helper()
	hub := nstest.NewSpace(t)
	hub.Must(t, func() error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		return netlink.LinkSetUp(br)
	})
	for i, s := range spaces {
		port := "port" + string(rune('a'+i))
		own := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)}), 16)
		nstest.Link(t, hub, port, netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + i)}), 32), s, "drawbridge0", own)
		hub.Must(t, func() error {
			p, err := netlink.LinkByName(port)
			if err != nil {
				return err
			}
			br, err := netlink.LinkByName("switch")
			if err != nil {
				return err
			}
			return netlink.LinkSetMaster(p, br)
		})
	}
}

// forward6 makes the calling namespace a router in IPv6.
func forward6() error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644)
}
