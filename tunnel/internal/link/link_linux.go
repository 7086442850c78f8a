package link

import (
	"fmt"
	"net"
	"net/netip"

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
	if err := setAddr(l, netlink.FAMILY_V4, s.Addr); err != nil {
		return o, err
	}
	// After the MTU: below 1280 the kernel takes all IPv6 addresses away.
	if err := setAddr(l, netlink.FAMILY_V6, s.Addr6); err != nil {
		return o, err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return o, fmt.Errorf("bring %s up: %w", s.Name, err)
	}
	o.Left, err = setRoutes(l, s)
	return o, err
}

// setAddr makes want the only address of its family; an invalid one is none.
func setAddr(l netlink.Link, family int, want netip.Addr) error {
	name := l.Attrs().Name
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	found := false
	for _, a := range have {
		p, ok := prefix(a.IPNet)
		if ok && p.Addr() == want && p.IsSingleIP() {
			found = true
			continue
		}
		if ok && p.Addr().IsLinkLocalUnicast() {
			continue // made by the kernel; one that somebody relies on stays
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("remove address %v of %s: %w", a.IPNet, name, err)
		}
	}
	if found || !want.IsValid() {
		return nil
	}
	a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(want, want.BitLen()))}
	if want.Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody could answer, and it is to be used at once
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add address %v to %s: %w", want, name, err)
	}
	return nil
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
