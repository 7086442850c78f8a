package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is one machine of the miniature internet: a network namespace kept
// alive by its file descriptor.
type host struct {
	name string
	ns   netns.NsHandle
	nl   *netlink.Handle
}

// newHost makes an empty namespace with its loopback up.
func newHost(name string) (*host, error) {
	h := &host{name: name, ns: netns.None()}
	err := onThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return fmt.Errorf("create network namespace: %w", err)
		}
		h.ns = ns
		return nil
	})
	if err != nil {
		return nil, err
	}
	if h.nl, err = netlink.NewHandleAt(h.ns); err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), h.close())
	}
	lo, err := h.nl.LinkByName("lo")
	if err == nil {
		err = h.nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bring up loopback: %w", err), h.close())
	}
	return h, nil
}

// do runs f on a thread that is in the host's namespace. Sockets and children
// that f makes belong to the host for good.
func (h *host) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("enter %s: %w", h.name, err)
		}
		return f()
	})
}

// onThread runs f on an operating system thread of its own, which ends with
// it: whatever namespace f entered never leaks into the scheduler.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

func (h *host) close() error {
	if h.nl != nil {
		h.nl.Close()
	}
	if h.ns.IsOpen() {
		return h.ns.Close()
	}
	return nil
}

// bridge makes a switch in h; an address makes it the host's own leg as well.
func (h *host) bridge(name string, addr netip.Prefix) error {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := h.nl.LinkAdd(br); err != nil {
		return fmt.Errorf("create bridge %s in %s: %w", name, h.name, err)
	}
	return h.raise(name, addr)
}

// wire connects link a of host h with link b of host o. A valid prefix is
// given to that end.
func (h *host) wire(a string, aAddr netip.Prefix, o *host, b string, bAddr netip.Prefix) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a},
		PeerName:      b,
		PeerNamespace: netlink.NsFd(int(o.ns)),
	}
	if err := h.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("wire %s to %s: %w", h.name, o.name, err)
	}
	if err := h.raise(a, aAddr); err != nil {
		return err
	}
	return o.raise(b, bAddr)
}

// plug puts link port of h into bridge br of h.
func (h *host) plug(port, br string) error {
	l, err := h.nl.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", port, h.name, err)
	}
	master, err := h.nl.LinkByName(br)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", br, h.name, err)
	}
	if err := h.nl.LinkSetMaster(l, master); err != nil {
		return fmt.Errorf("plug %s into %s: %w", port, br, err)
	}
	return nil
}

// width gives a link of h an MTU.
func (h *host) width(link string, mtu int) error {
	l, err := h.nl.LinkByName(link)
	if err == nil {
		err = h.nl.LinkSetMTU(l, mtu)
	}
	if err != nil {
		return fmt.Errorf("set MTU %d of %s in %s: %w", mtu, link, h.name, err)
	}
	return nil
}

func (h *host) raise(link string, addr netip.Prefix) error {
	l, err := h.nl.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", link, h.name, err)
	}
	if addr.IsValid() {
		if err := h.nl.AddrAdd(l, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
			return fmt.Errorf("address %s on %s of %s: %w", addr, link, h.name, err)
		}
	}
	if err := h.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up %s of %s: %w", link, h.name, err)
	}
	return nil
}

// route sends dst through via, replacing what was there.
func (h *host) route(dst netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{Gw: via.AsSlice(), Dst: ipNet(dst)}
	if err := h.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s via %s in %s: %w", dst, via, h.name, err)
	}
	return nil
}

// own makes every address of a prefix h's, as if each were on its loopback.
func (h *host) own(p netip.Prefix) error {
	lo, err := h.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in %s: %w", h.name, err)
	}
	r := &netlink.Route{
		Dst: ipNet(p), LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
	}
	if err := h.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("own %s in %s: %w", p, h.name, err)
	}
	return nil
}

// forwarding makes h a router.
func (h *host) forwarding() error {
	return h.do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
			return fmt.Errorf("switch on forwarding in %s: %w", h.name, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

var anywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
