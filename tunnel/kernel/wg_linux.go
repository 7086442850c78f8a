package kernel

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
)

// trial is the interface that [Available] makes for a moment.
const trial = "dbtrial"

// Available tells whether this process can make an interface of the kernel's
// WireGuard. If not, the error says what is missing; it wraps
// [tunnel.ErrNoPrivilege] where that is a right. It finds out by making one for
// a moment, which also loads the kernel's module.
func Available() error {
	err := link.Make(trial)
	if errors.Is(err, unix.EEXIST) { // left by a crash in the middle of this
		err = nil
	}
	if err != nil {
		return privilege(err)
	}
	if err := forget(); err != nil {
		return err
	}
	c, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("talk to the kernel's WireGuard: %w", err)
	}
	return c.Close()
}

// forget removes the trial interface.
func forget() error {
	_, err := link.Remove(trial)
	return err
}

// privilege says what is missing when no interface can be made.
func privilege(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w; run as root, or grant CAP_NET_ADMIN", tunnel.ErrNoPrivilege, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no WireGuard, or its module cannot be loaded: %w; try modprobe wireguard, or choose the tun backend", err)
	}
	return err
}

// configure brings keys, port and peers to the wish.
func (d *Device) configure(c tunnel.Config) error {
	w, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("talk to the kernel's WireGuard: %w", err)
	}
	defer func() { _ = w.Close() }()
	have, err := w.Device(d.opts.Interface)
	if err != nil {
		return fmt.Errorf("read interface %s: %w", d.opts.Interface, err)
	}
	for _, step := range diff(have, d.last, &c) {
		for _, m := range messages(step) {
			err := w.ConfigureDevice(d.opts.Interface, m)
			if m.ListenPort != nil && err != nil {
				return portError(c.ListenPort, err) // and nothing has changed
			}
			if err != nil {
				d.last = nil
				return fmt.Errorf("configure interface %s: %w", d.opts.Interface, err)
			}
		}
	}
	d.last = &c
	return nil
}

// portError translates a taken port. The kernel tells when the port changes, or
// when the interface comes up.
func portError(port uint16, err error) error {
	if errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, tunnel.ErrPortTaken) {
		return fmt.Errorf("listen on UDP port %d: %w; stop the other process or configure another port", port, tunnel.ErrPortTaken)
	}
	return err
}

// report reads port and peers.
func (d *Device) report(s *tunnel.Status) error {
	w, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("talk to the kernel's WireGuard: %w", err)
	}
	defer func() { _ = w.Close() }()
	have, err := w.Device(d.opts.Interface)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read interface %s: %w; somebody removed it, the next change makes it again", d.opts.Interface, err)
	}
	if err != nil {
		return fmt.Errorf("read interface %s: %w", d.opts.Interface, err)
	}
	s.ListenPort = uint16(have.ListenPort)
	for i := range have.Peers {
		s.Peers = append(s.Peers, peerStatus(&have.Peers[i]))
	}
	slices.SortFunc(s.Peers, func(a, b tunnel.PeerStatus) int { return a.Key.Compare(b.Key) })
	return nil
}

func peerStatus(p *wgtypes.Peer) tunnel.PeerStatus {
	s := tunnel.PeerStatus{
		Key: tunnel.Key(p.PublicKey), Endpoint: addrPort(p.Endpoint),
		RxBytes: uint64(p.ReceiveBytes), TxBytes: uint64(p.TransmitBytes),
	}
	if t := p.LastHandshakeTime; !t.IsZero() && t.Unix() != 0 {
		s.LastHandshake = t
	}
	return s
}
