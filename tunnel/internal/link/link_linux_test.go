package link_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func state() link.State {
	return link.State{
		Name: "ours0", MTU: 1420, Addr: netip.MustParseAddr("10.77.0.1"), Mesh: netip.MustParsePrefix("10.77.0.0/16"),
		Addr6: netip.MustParseAddr("fd77::1"), Mesh6: netip.MustParsePrefix("fd77::/64"),
	}
}

// host has the interface of others, eth0, and ours.
func host(t *testing.T) *nstest.Space {
	s, far := nstest.NewSpace(t), nstest.NewSpace(t)
	nstest.Link(t, s, "eth0", netip.MustParsePrefix("192.168.20.5/24"), far, "eth0", netip.MustParsePrefix("192.168.20.6/24"))
	nstest.Link(t, s, "ours0", netip.MustParsePrefix("192.0.2.1/32"), far, "theirs0", netip.MustParsePrefix("192.0.2.2/32"))
	return s
}

func set(t *testing.T, s *nstest.Space, w link.State) (o link.Outcome) {
	t.Helper()
	s.Must(t, func() (err error) { o, err = link.Set(w); return err })
	return o
}

// routes lists the main table, without what the kernel made.
func routes(t *testing.T, s *nstest.Space) (out []string) {
	t.Helper()
	s.Must(t, func() error {
		rs, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: 254}, netlink.RT_FILTER_TABLE)
		for _, r := range rs {
			if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil && (r.Protocol != 2 || l.Attrs().Name == "eth0") && !r.Dst.IP.IsLinkLocalUnicast() {
				out = append(out, fmt.Sprintf("%v %s %d mtu %d", r.Dst, l.Attrs().Name, r.Protocol, r.MTU))
			}
		}
		return err
	})
	slices.Sort(out)
	return out
}

func same(t *testing.T, step string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", step, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRoutesOfOthersStay(t *testing.T) {
	s := host(t)
	s.Must(t, func() error { // somebody's own route to our interface
		l, err := netlink.LinkByName("ours0")
		if err != nil {
			return err
		}
		n, err := netlink.ParseIPNet("10.50.0.0/16")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: n, Scope: netlink.SCOPE_LINK, Protocol: 4})
	})
	w := state()
	w.Routes = []netip.Prefix{netip.MustParsePrefix("192.168.20.0/24"), netip.MustParsePrefix("192.168.30.0/24")}
	w.Paths = []link.Path{{Prefix: netip.MustParsePrefix("10.77.0.2/32"), MTU: 1300}}
	for range 2 {
		o := set(t, s, w)
		if len(o.Left) != 1 || !strings.Contains(o.Left[0], "192.168.20.0/24 is routed to eth0") || o.NoIPv6 != "" {
			t.Errorf("left out %+v, want the network of eth0", o)
		}
		same(t, "set", routes(t, s), "10.50.0.0/16 ours0 4 mtu 0", "10.77.0.0/16 ours0 219 mtu 0", "10.77.0.2/32 ours0 219 mtu 1300",
			"192.168.20.0/24 eth0 2 mtu 0", "192.168.30.0/24 ours0 219 mtu 0", "fd77::/64 ours0 219 mtu 0")
	}
	w.Routes, w.Paths = nil, nil
	set(t, s, w)
	same(t, "less", routes(t, s), "10.50.0.0/16 ours0 4 mtu 0", "10.77.0.0/16 ours0 219 mtu 0", "192.168.20.0/24 eth0 2 mtu 0", "fd77::/64 ours0 219 mtu 0")
	s.Do(func() {
		if err := link.Clash("ours0", netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("fd77::/64"), netip.Prefix{}); err != nil {
			t.Errorf("clash with ourselves: %v", err)
		}
		for _, p := range []string{"192.168.0.0/16", "fd77::/48"} {
			if err := link.Clash("eth1", netip.MustParsePrefix("10.99.0.0/16"), netip.MustParsePrefix(p)); err == nil {
				t.Errorf("no clash with %s", p)
			}
		}
	})
}

func TestHostWithoutIPv6(t *testing.T) {
	for _, where := range []string{"all", "default"} {
		s := host(t)
		s.Must(t, func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/"+where+"/disable_ipv6", []byte("1"), 0o644)
		})
		if o := set(t, s, state()); !strings.Contains(o.NoIPv6, where+".disable_ipv6") {
			t.Errorf("no IPv6 because of %q, want %s.disable_ipv6", o.NoIPv6, where)
		}
		same(t, where, routes(t, s), "10.77.0.0/16 ours0 219 mtu 0", "192.168.20.0/24 eth0 2 mtu 0")
	}
}

func TestMTUDecidesOnIPv6(t *testing.T) {
	s := host(t)
	w := state()
	for _, step := range []struct {
		mtu int
		six bool
	}{{1420, true}, {1279, false}, {1280, true}} {
		w.MTU = step.mtu
		o := set(t, s, w)
		if got := slices.Contains(routes(t, s), "fd77::/64 ours0 219 mtu 0"); got != step.six || (o.NoIPv6 == "") != step.six {
			t.Errorf("MTU %d: IPv6 %v (%q), want %v", step.mtu, got, o.NoIPv6, step.six)
		}
	}
}

func TestForwardIPv6(t *testing.T) {
	s := host(t)
	set(t, s, state())
	s.Must(t, func() error { _, err := link.Forward("ours0"); return err })
	on := false
	for _, f := range []string{"ours0/force_forwarding", "all/forwarding"} {
		var b []byte
		s.Do(func() { b, _ = os.ReadFile("/proc/sys/net/ipv6/conf/" + f) })
		on = on || strings.TrimSpace(string(b)) == "1"
	}
	if !on {
		t.Error("IPv6 is not forwarded")
	}
	if ra := strings.TrimSpace(s.Sysctl(t, "net/ipv6/conf/eth0/accept_ra")); ra == "1" && strings.TrimSpace(s.Sysctl(t, "net/ipv6/conf/all/forwarding")) == "1" {
		t.Error("eth0 ignores router advertisements now")
	}
}
