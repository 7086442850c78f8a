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

// settle makes the kernel's habits fit a tunnel, as far as it is permitted:
//
//   - rp_filter loose: an answer may come from another gateway than the one
//     the route points to. The kernel uses the larger of this value and that of
//     "all", so 2 here holds whatever the host's default is;
//   - no IPv6: the overlay has none, and router solicitations would only be
//     packets for nobody.
//
// Where /proc is read-only the tunnel works without, so errors are ignored.
func settle(iface string) {
	_, _ = write(filepath.Join("ipv4/conf", iface, "rp_filter"), "2")
	_, _ = write(filepath.Join("ipv6/conf", iface, "disable_ipv6"), "1")
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
	return changed, nil
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
