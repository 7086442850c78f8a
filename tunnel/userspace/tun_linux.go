package userspace

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
)

const (
	cloneDevice = "/dev/net/tun"
	nextStep    = "run as root, or grant CAP_NET_ADMIN and /dev/net/tun, or choose the netstack backend"
)

// Available tells whether this process can make a TUN. If not, the error wraps
// [tunnel.ErrNoPrivilege] and says what is missing. It finds out by making one
// for a moment.
func Available() error {
	f, err := attach("dbcheck%d")
	if err != nil {
		return err
	}
	return f.Close()
}

// attach makes the TUN of this name, or takes over one that nobody holds. The
// interface disappears when the file is closed.
func attach(name string) (*os.File, error) {
	fd, err := unix.Open(cloneDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w: this system has no %s (%w); load the tun module, give the container the device, or choose the netstack backend",
			tunnel.ErrNoPrivilege, cloneDevice, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w: open %s: %w; %s", tunnel.ErrNoPrivilege, cloneDevice, err, nextStep)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", cloneDevice, err)
	}
	if err := register(fd, name); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	// The poller takes a file as it is: only one that has its interface, and
	// does not block, tells when packets come.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), cloneDevice), nil
}

func register(fd int, name string) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("interface name %q: %w; use at most 15 characters", name, err)
	}
	// With IFF_VNET_HDR the kernel hands over whole bursts of TCP as one.
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	switch err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w; %s", tunnel.ErrNoPrivilege, err, nextStep)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("make interface %s: %w; another process holds it: stop that agent, or choose another interface name", name, err)
	case err != nil:
		return fmt.Errorf("make interface %s: %w", name, err)
	}
	// A left-over that was made to stay must not stay after us. On one made
	// just now this changes nothing.
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 0); err != nil {
		return fmt.Errorf("make interface %s: %w", name, err)
	}
	return nil
}

// openTUN makes the interface for WireGuard. A left-over of the same name is
// taken over; if it was made in another way (the kernel backend made a
// WireGuard interface, say) it is removed first.
func openTUN(name string, mtu int) (tun.Device, error) {
	f, err := attach(name)
	if errors.Is(err, unix.EINVAL) {
		if _, err := link.Remove(name); err != nil {
			return nil, err
		}
		f, err = attach(name)
	}
	if err != nil {
		return nil, err
	}
	t, err := tun.CreateTUNFromFile(f, mtu)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make interface %s: %w", name, err), f.Close())
	}
	s, err := newSteady(t)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return s, nil
}
