package link

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

const conf = "/proc/sys/net"

// settle makes the kernel's habits fit a tunnel, as far as it is permitted, and
// says why the interface has no IPv6 although the state has an address; "" when
// it has one or wants none.
//
// rp_filter is set loose: an answer may come from another gateway than the one
// the route points to. The kernel uses the larger of this value and that of
// "all", so 2 here holds whatever the host's default is. Where /proc is
// read-only the tunnel works without.
func settle(s State) (noIPv6 string) {
	_, _ = write(filepath.Join("ipv4/conf", s.Name, "rp_filter"), "2")
	six := filepath.Join("ipv6/conf", s.Name)
	if !s.Addr6.IsValid() {
		_, _ = write(filepath.Join(six, "disable_ipv6"), "1")
		return ""
	}
	if why := withoutIPv6(s.MTU); why != "" {
		_, _ = write(filepath.Join(six, "disable_ipv6"), "1")
		return why
	}
	// No address but ours, and no router solicitations: packets for nobody.
	_, _ = write(filepath.Join(six, "addr_gen_mode"), "1")
	_, _ = write(filepath.Join(six, "accept_ra"), "0")
	_, _ = write(filepath.Join(six, "autoconf"), "0")
	if _, err := write(filepath.Join(six, "disable_ipv6"), "0"); err != nil {
		return fmt.Sprintf("IPv6 is off at %s and cannot be switched on: %v", s.Name, err)
	}
	return ""
}

// withoutIPv6 is why an interface of this host cannot have IPv6, or "".
func withoutIPv6(mtu int) string {
	if mtu < minMTU6 {
		return fmt.Sprintf("MTU %d is below %d, the least that IPv6 may have (RFC 8200, section 5)", mtu, minMTU6)
	}
	// What the host's owner switched off everywhere, or for every interface to
	// come, is not for us to switch on.
	for _, name := range []string{"all", "default"} {
		b, err := os.ReadFile(filepath.Join(conf, "ipv6/conf", name, "disable_ipv6"))
		if errors.Is(err, os.ErrNotExist) {
			return "this kernel has no IPv6"
		}
		if err == nil && string(bytes.TrimSpace(b)) != "0" {
			return "net.ipv6.conf." + name + ".disable_ipv6 is set on this host"
		}
	}
	return ""
}

// Forward lets the kernel forward between iface and the underlay, and returns
// the interfaces at which that was off before.
//
// Whether a packet is forwarded depends on the interface it came in by. So it
// must be on at iface, for what members send to one another through us and for
// answers, and at each underlay interface by which a load balancer may reach
// us: any that is up and has an IPv4 address. net.ipv4.ip_forward is not
// written, because that would also switch it on at interfaces of others that
// come later. What was switched on stays so: by the time we end, somebody else
// may rely on it.
//
// IPv6 passes between members only, so it is on at iface alone where the kernel
// can do that (force_forwarding, Linux 6.17), see forward6.
func Forward(iface string) (changed []string, err error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		n := l.Attrs().Name
		if n != iface && !underlay(l) {
			continue
		}
		did, err := write(filepath.Join("ipv4/conf", n, "forwarding"), "1")
		if err != nil {
			return changed, fmt.Errorf("enable forwarding at %s: %w; a gateway needs it: set net.ipv4.ip_forward=1 on this host", n, err)
		}
		if did {
			changed = append(changed, n)
		}
	}
	if did, err := forward6(iface, links); err != nil {
		return changed, err
	} else if did {
		changed = append(changed, "IPv6")
	}
	return changed, nil
}

// forward6 lets the kernel forward IPv6 that comes in by iface, if that has
// IPv6 at all. Older kernels know one switch for the whole host, and a host
// that forwards ignores router advertisements (its default route would run
// out), unless accept_ra is 2: so that is set first where it was 1.
func forward6(iface string, links []netlink.Link) (changed bool, err error) {
	six := filepath.Join("ipv6/conf", iface)
	if b, err := os.ReadFile(filepath.Join(conf, six, "disable_ipv6")); err != nil || string(bytes.TrimSpace(b)) != "0" {
		return false, nil
	}
	if did, err := write(filepath.Join(six, "force_forwarding"), "1"); err == nil {
		return did, nil
	}
	for _, l := range links {
		ra := filepath.Join("ipv6/conf", l.Attrs().Name, "accept_ra")
		if b, err := os.ReadFile(filepath.Join(conf, ra)); err == nil && string(bytes.TrimSpace(b)) == "1" {
			if _, err := write(ra, "2"); err != nil {
				return false, fmt.Errorf("keep router advertisements at %s: %w", l.Attrs().Name, err)
			}
		}
	}
	did, err := write("ipv6/conf/all/forwarding", "1")
	if err != nil {
		return false, fmt.Errorf("enable IPv6 forwarding: %w; a gateway needs it: set net.ipv6.conf.all.forwarding=1 on this host", err)
	}
	return did, nil
}

func underlay(l netlink.Link) bool {
	const up, loopback = 1 << 0, 1 << 3 // IFF_UP, IFF_LOOPBACK of if.h
	if f := l.Attrs().RawFlags; f&up == 0 || f&loopback != 0 {
		return false
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
	return err == nil && len(addrs) > 0
}

// write sets a kernel setting if it has another value, so that a read-only
// /proc with the right value is no error.
func write(path, value string) (changed bool, err error) {
	path = filepath.Join(conf, path)
	have, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && filepath.Base(path) == "disable_ipv6" {
		return false, nil // a kernel without IPv6
	}
	if err == nil && string(bytes.TrimSpace(have)) == value {
		return false, nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return false, err
	}
	return true, nil
}
