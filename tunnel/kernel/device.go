package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/hostnet"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/wish"
)

// DefaultInterface is the name of the interface unless told otherwise.
const DefaultInterface = "drawbridge0"

var _ tunnel.Device = (*Device)(nil)

// Options of a [Device]. The zero value works.
type Options struct {
	Interface string // at most 15 bytes; "" means DefaultInterface
	// Forward makes this host a gateway: the kernel forwards between the
	// interface and the underlay. What may pass is the packet filter's matter.
	Forward bool
	Logger  *slog.Logger // nil discards
}

// Device is an interface of the kernel's WireGuard.
type Device struct {
	opts Options
	net  *hostnet.Network

	mu     sync.Mutex // guards the rest
	hold   io.Closer  // nil before the first Apply
	last   *tunnel.Config
	told   link.Teller
	closed bool
}

// New makes a device that does nothing until the first Apply.
func New(o Options) *Device {
	if o.Interface == "" {
		o.Interface = DefaultInterface
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Device{opts: o, net: hostnet.New(), told: link.Teller{Log: o.Logger}}
}

// Apply makes the device equal to c; see [tunnel.Device]. A change of the own
// addresses or the mesh prefixes is [tunnel.ErrNeedsRestart]. An interface that
// somebody removed is made again; what somebody changed at it is changed back.
func (d *Device) Apply(ctx context.Context, c tunnel.Config) error {
	c, err := wish.Take(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return tunnel.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := wish.Fits(d.last, c); err != nil {
		return err
	}
	if d.hold == nil {
		return d.start(c)
	}
	up, err := link.Up(d.opts.Interface)
	if err != nil {
		return err
	}
	if !up {
		d.opts.Logger.Warn("interface disappeared, making it again", "reason", d.opts.Interface)
		return d.make(c)
	}
	if err := d.configure(c); err != nil {
		return err
	}
	return d.place(c)
}

// start takes the interface name and makes the interface, anew if there is a
// left-over.
func (d *Device) start(c tunnel.Config) error {
	if err := link.Clash(d.opts.Interface, c.Mesh, c.Mesh6); err != nil {
		return err
	}
	if _, err := link.Remove(d.opts.Interface); err != nil {
		return err
	}
	hold, err := link.Hold(d.opts.Interface)
	if err != nil {
		return err
	}
	d.hold = hold
	if err := d.make(c); err != nil {
		d.hold = nil
		hold.Close()
		return err
	}
	return nil
}

// make makes the interface and brings it up, or leaves none.
func (d *Device) make(c tunnel.Config) error {
	if err := link.Make(d.opts.Interface); err != nil {
		return privilege(err)
	}
	d.last = nil
	err := d.configure(c)
	if err == nil {
		err = d.place(c)
	}
	if err != nil {
		d.last = nil
		return errors.Join(portError(c.ListenPort, err), link.Delete(d.opts.Interface))
	}
	return nil
}

// place gives the interface its place in the host's network.
func (d *Device) place(c tunnel.Config) error {
	o, err := link.Set(link.StateOf(d.opts.Interface, &c))
	if err != nil {
		return err
	}
	d.told.Tell(o)
	if o.NoIPv6 != "" {
		c.Addr6 = netip.Addr{}
	}
	d.net.Open(c.Addr, c.Addr6)
	if !d.opts.Forward {
		return nil
	}
	changed, err := link.Forward(d.opts.Interface)
	for _, n := range changed {
		if n != d.opts.Interface {
			d.opts.Logger.Info("kernel forwarding switched on", "endpoint", n)
		}
	}
	return err
}

// Status reports the device.
func (d *Device) Status(context.Context) (tunnel.Status, error) {
	s := tunnel.Status{Backend: tunnel.Kernel}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return s, tunnel.ErrClosed
	}
	s.Interface = d.opts.Interface
	if d.hold == nil {
		return s, nil
	}
	if err := d.report(&s); err != nil {
		return s, err
	}
	var err error
	s.MTU, err = link.MTU(d.opts.Interface)
	return s, err
}

// Network dials and listens with system sockets bound to the overlay address.
func (d *Device) Network() tunnel.Network { return d.net }

// Close removes the interface and ends the connections of the device's
// Network. A second call does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.net.Close()
	if d.hold == nil {
		return nil
	}
	err := link.Delete(d.opts.Interface)
	return errors.Join(err, d.hold.Close())
}

// Cleanup removes an interface that a crash left, with its addresses and
// routes, and tells whether there was one. It may be the TUN backend's. One that
// is not ours is refused, and so is one that a living agent holds.
func Cleanup(iface string) (removed bool, err error) {
	removed, err = link.Remove(iface)
	if err != nil {
		return removed, fmt.Errorf("clean up: %w", err)
	}
	return removed, forget()
}

// Left names the interface that [Cleanup] would remove, "" if there is none.
// An error says why it would refuse.
func Left(iface string) (string, error) {
	kind, err := link.Find(iface)
	switch {
	case err != nil || kind == link.None:
		return "", err
	case kind == link.Foreign || kind == link.HeldTUN:
		return "", fmt.Errorf("clean up: %w", link.NotOurs(iface, kind))
	}
	return fmt.Sprintf("interface %s (%s) with its addresses and routes", iface, kind), nil
}
