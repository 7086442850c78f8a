package userspace

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/engine"
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

// Device is a WireGuard device with an interface of the host.
type Device struct {
	opts Options
	net  *hostnet.Network

	mu     sync.Mutex // guards the rest
	wg     *engine.Engine
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
// somebody removed is made again.
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
	if d.wg != nil && d.wg.Dead() {
		d.opts.Logger.Warn("interface disappeared, making it again", "reason", d.opts.Interface)
		d.wg = nil
	}
	if d.wg == nil {
		return d.start(c)
	}
	if err := d.wg.Set(c); err != nil {
		return err
	}
	d.last = &c
	return d.place(c)
}

func (d *Device) start(c tunnel.Config) error {
	if err := link.Clash(d.opts.Interface, c.Mesh, c.Mesh6); err != nil {
		return err
	}
	t, err := openTUN(d.opts.Interface, c.MTU)
	if err != nil {
		return err
	}
	wg, err := engine.Start(t, c, d.opts.Logger)
	if err != nil {
		return err
	}
	d.wg = wg
	if err := d.place(c); err != nil {
		d.wg = nil
		wg.Close()
		return err
	}
	d.last = &c
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
	s := tunnel.Status{Backend: tunnel.Userspace}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return s, tunnel.ErrClosed
	}
	s.Interface = d.opts.Interface
	if d.wg == nil {
		return s, nil
	}
	var err error
	s.Offload = d.wg.Offload()
	if s.ListenPort, s.Peers, err = d.wg.Status(); err != nil {
		return s, err
	}
	s.MTU, err = link.MTU(d.opts.Interface)
	return s, err
}

// Network dials and listens with system sockets bound to the overlay address.
func (d *Device) Network() tunnel.Network { return d.net }

// Close ends the device, its interface and the connections of its Network. A
// second call does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.net.Close()
	if d.wg != nil {
		d.wg.Close() // the interface goes with its file
	}
	return nil
}

// Clash reports, wrapping [tunnel.ErrPrefixClash], a route of this host that
// overlaps one of the prefixes and is neither a default route nor on iface.
func Clash(iface string, prefixes ...netip.Prefix) error { return link.Clash(iface, prefixes...) }

// Cleanup removes an interface that a crash left, with its addresses and
// routes, and tells whether there was one. One that is not ours is refused.
func Cleanup(iface string) (removed bool, err error) { return link.Remove(iface) }
