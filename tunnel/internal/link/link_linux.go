package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// State is the wish for an interface.
type State struct {
	Name string       // an existing interface
	Addr netip.Addr   // its only IPv4 address, with a /32
	Mesh netip.Prefix // routed to it
	MTU  int          // bytes
}

// Set brings the interface up with this state. Other IPv4 addresses are
// removed, so that a left-over interface becomes a clean one.
func Set(s State) error {
	l, err := netlink.LinkByName(s.Name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", s.Name, err)
	}
	if l.Attrs().MTU != s.MTU {
		if err := netlink.LinkSetMTU(l, s.MTU); err != nil {
			return fmt.Errorf("set MTU %d of %s: %w", s.MTU, s.Name, err)
		}
	}
	if err := setAddr(l, s.Addr); err != nil {
		return err
	}
	settle(s.Name)
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %s up: %w", s.Name, err)
	}
	// Replace is idempotent and, unlike add, also heals a changed source.
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(s.Mesh), Src: s.Addr.AsSlice(), Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("route %v to %s: %w", s.Mesh, s.Name, err)
	}
	return nil
}

func setAddr(l netlink.Link, want netip.Addr) error {
	name := l.Attrs().Name
	have, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	found := false
	for _, a := range have {
		if p, ok := prefix(a.IPNet); ok && p.Addr() == want && p.Bits() == 32 {
			found = true
			continue
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("remove address %v of %s: %w", a.IPNet, name, err)
		}
	}
	if found {
		return nil
	}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(want, 32))}); err != nil {
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

// Exists tells whether there is an interface of this name and, if so, whether
// it is a TUN, the only kind that is ours to touch.
func Exists(name string) (exists, tun bool, err error) {
	l, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("find interface %s: %w", name, err)
	}
	t, ok := l.(*netlink.Tuntap)
	return true, ok && t.Mode == netlink.TUNTAP_MODE_TUN, nil
}

// Remove deletes a TUN left over by a crash, with its address and routes. One
// that is not there is fine; an interface of another kind is refused.
func Remove(name string) error {
	exists, tun, err := Exists(name)
	if err != nil || !exists {
		return err
	}
	if !tun {
		return fmt.Errorf("remove interface %s: it is no TUN, so it is not ours; choose another interface name", name)
	}
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(l)
	}
	var missing netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
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
