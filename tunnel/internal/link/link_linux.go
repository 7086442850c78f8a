package link

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Set brings the interface up with this state. Its other addresses and our
// other routes to it are removed, so that a left-over interface becomes a
// clean one. What the host cannot or will not have is left out and told.
func Set(s State) (Outcome, error) {
	var o Outcome
	l, err := netlink.LinkByName(s.Name)
	if err != nil {
		return o, fmt.Errorf("find interface %s: %w", s.Name, err)
	}
	if l.Attrs().MTU != s.MTU {
		if err := netlink.LinkSetMTU(l, s.MTU); err != nil {
			return o, fmt.Errorf("set MTU %d of %s: %w", s.MTU, s.Name, err)
		}
	}
	o.NoIPv6 = settle(s)
	if o.NoIPv6 != "" {
		s.Addr6, s.Mesh6 = netip.Addr{}, netip.Prefix{}
	}
	if _, err := setAddr(l, netlink.FAMILY_V4, s.Addr); err != nil {
		return o, err
	}
	// After the MTU: below 1280 the kernel takes all IPv6 addresses away.
	fresh, err := setAddr(l, netlink.FAMILY_V6, s.Addr6)
	if err != nil {
		return o, err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return o, fmt.Errorf("bring %s up: %w", s.Name, err)
	}
	if o.Left, err = setRoutes(l, s); err != nil {
		return o, err
	}
	if fresh {
		return o, AwaitLocal(s.Addr6)
	}
	return o, nil
}

// setAddr makes want the only address of its family; an invalid one is none.
// It tells whether it added it.
func setAddr(l netlink.Link, family int, want netip.Addr) (fresh bool, err error) {
	name := l.Attrs().Name
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", name, err)
	}
	var others []netlink.Addr
	found := false
	for _, a := range have {
		p, ok := prefix(a.IPNet)
		switch {
		case ok && p.Addr() == want && p.IsSingleIP():
			found = true
		case ok && p.Addr().IsLinkLocalUnicast() && p.Addr().Is6():
			// Made by the kernel; one that somebody relies on stays.
		default:
			others = append(others, a)
		}
	}
	if want.IsValid() && !found {
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(want, want.BitLen()))}
		if want.Is6() {
			a.Flags = unix.IFA_F_NODAD // nobody could answer, and it is to be used at once
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return false, fmt.Errorf("add address %v to %s: %w", want, name, err)
		}
		fresh = true
	}
	// Last, because with the last address all routes of its family go.
	for _, a := range others {
		if err := netlink.AddrDel(l, &a); err != nil {
			return fresh, fmt.Errorf("remove address %v of %s: %w", a.IPNet, name, err)
		}
	}
	return fresh, nil
}

// AwaitLocal waits until the host answers on an address that was just added.
// The kernel makes the route for an IPv6 one a little later, and until then
// refuses what comes to it.
func AwaitLocal(a netip.Addr) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		rs, err := netlink.RouteGet(a.AsSlice())
		if err == nil && len(rs) > 0 && rs[0].Type == unix.RTN_LOCAL {
			return nil
		}
		<-tick.C
	}
	return fmt.Errorf("address %v does not become usable", a)
}

// MTU is the MTU in force at an interface, in bytes.
func MTU(name string) (int, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find interface %s: %w", name, err)
	}
	return l.Attrs().MTU, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}
