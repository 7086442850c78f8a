package userspace

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/engine"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/uapi"
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
	net  *network

	mu     sync.Mutex // guards the rest
	wg     *engine.Engine
	last   *tunnel.Config
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
	return &Device{opts: o, net: newNetwork()}
}

// Apply makes the device equal to c; see [tunnel.Device]. A change of Addr or
// Mesh is [tunnel.ErrNeedsRestart]. An interface that somebody removed is made
// again.
func (d *Device) Apply(ctx context.Context, c tunnel.Config) error {
	c = copyOf(c)
	if err := uapi.Check(&c); err != nil {
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
	if d.last != nil && (c.Addr != d.last.Addr || c.Mesh != d.last.Mesh) {
		return fmt.Errorf("overlay address %v in %v instead of %v in %v: %w",
			c.Addr, c.Mesh, d.last.Addr, d.last.Mesh, tunnel.ErrNeedsRestart)
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
	if err := link.Clash(c.Mesh, d.opts.Interface); err != nil {
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
	d.net.open(c.Addr)
	return nil
}

// place gives the interface its place in the host's network.
func (d *Device) place(c tunnel.Config) error {
	if err := link.Set(link.State{Name: d.opts.Interface, Addr: c.Addr, Mesh: c.Mesh, MTU: c.MTU}); err != nil {
		return err
	}
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
	d.net.close()
	if d.wg != nil {
		d.wg.Close() // the interface goes with its file
	}
	return nil
}

// Clash reports, wrapping [tunnel.ErrPrefixClash], a route of this host that
// overlaps the mesh prefix and is neither a default route nor on iface.
func Clash(mesh netip.Prefix, iface string) error { return link.Clash(mesh, iface) }

// Cleanup removes an interface that a crash left, with its address and route.
// One that is not there is fine, one that is no TUN is refused.
func Cleanup(iface string) error { return link.Remove(iface) }

// copyOf is a normalized copy of c that shares no slices with it, with the
// default MTU filled in.
func copyOf(c tunnel.Config) tunnel.Config {
	c.Peers = slices.Clone(c.Peers)
	for i := range c.Peers {
		c.Peers[i].AllowedIPs = slices.Clone(c.Peers[i].AllowedIPs)
	}
	if c.MTU == 0 {
		c.MTU = tunnel.DefaultMTU
	}
	c.Normalize()
	return c
}
