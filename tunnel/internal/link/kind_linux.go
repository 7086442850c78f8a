package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Find tells what stands under an interface name. A WireGuard interface is
// ours when it carries our mark, see [Make].
func Find(name string) (Kind, error) {
	l, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return None, nil
	}
	if err != nil {
		return None, fmt.Errorf("find interface %s: %w", name, err)
	}
	switch l := l.(type) {
	case *netlink.Tuntap:
		switch {
		case l.Mode != netlink.TUNTAP_MODE_TUN:
			return Foreign, nil
		case l.NonPersist:
			return HeldTUN, nil
		}
		return TUN, nil
	case *netlink.Wireguard:
		if l.Alias == Alias || l.Group == group {
			return WireGuard, nil
		}
	}
	return Foreign, nil
}

// Remove deletes a TUN or an own WireGuard interface that a crash left, with
// its addresses and routes, and tells whether there was one. Any other
// interface is refused, and one that a living process holds is too.
func Remove(name string) (removed bool, err error) {
	kind, err := Find(name)
	switch {
	case err != nil || kind == None:
		return false, err
	case kind == Foreign, kind == HeldTUN:
		return false, NotOurs(name, kind)
	case kind == WireGuard:
		free, err := Hold(name)
		if err != nil {
			return false, err
		}
		defer free.Close()
	}
	return drop(name)
}

func drop(name string) (removed bool, err error) {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(l)
	}
	var missing netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &missing) {
		return false, fmt.Errorf("remove interface %s: %w", name, err)
	}
	return err == nil, nil
}

// group marks an interface in the instant it is made, "draw" in ASCII; the
// kernel takes an alias, which people can read, only afterwards.
const group = 0x64726177

// Make makes a WireGuard interface of the kernel's and marks it as ours. It
// is down and has no configuration. An existing one is an error that wraps
// EEXIST.
func Make(name string) error {
	l := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name, Group: group, TxQLen: -1}}
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("make interface %s: %w", name, err)
	}
	if err := netlink.LinkSetAlias(l, Alias); err != nil {
		return errors.Join(fmt.Errorf("mark interface %s: %w", name, err), netlink.LinkDel(l))
	}
	return nil
}

// Hold takes a WireGuard interface name for this process until it is closed or
// the process ends. A name that another process of this network namespace
// holds is an error: unlike a TUN, the interface itself does not tell.
func Hold(name string) (io.Closer, error) {
	// An abstract socket: it belongs to the network namespace, as the interface
	// does, and needs no file that a crash could leave.
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", "@drawbridge/"+name)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, held(name)
	}
	if err != nil {
		return nil, fmt.Errorf("hold interface %s: %w", name, err)
	}
	return l, nil
}

// NotOurs says why an interface of this kind is left alone.
func NotOurs(name string, kind Kind) error {
	if kind == HeldTUN {
		return held(name)
	}
	return fmt.Errorf("interface %s is neither a TUN nor a WireGuard interface that an agent made, so it is not ours; choose another interface name, or delete it by hand", name)
}

func held(name string) error {
	return fmt.Errorf("interface %s: another process holds it: stop that agent, or choose another interface name", name)
}

// Up tells whether the interface stands under its name and is ours.
func Up(name string) (bool, error) {
	kind, err := Find(name)
	if err == nil && (kind == Foreign || kind == HeldTUN) {
		err = NotOurs(name, kind)
	}
	return kind == WireGuard, err
}

// Delete removes an interface that this process holds. One that is not there,
// or is not ours any more, is fine.
func Delete(name string) error {
	kind, err := Find(name)
	if err != nil || kind != WireGuard {
		return err
	}
	_, err = drop(name)
	return err
}
