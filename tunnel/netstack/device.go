package netstack

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/engine"
	"drawbridge/tunnel/internal/wish"
)

var _ tunnel.Device = (*Device)(nil)

// Options of a [Device]. The zero value works.
type Options struct {
	// Forward relays packets between members (a gateway does).
	Forward bool
	Logger  *slog.Logger // nil discards
}

// Device is a WireGuard device with a network stack inside this process.
type Device struct {
	opts Options
	net  *network

	mu     sync.Mutex // guards the rest
	stack  *netTUN    // nil before the first Apply
	wg     *engine.Engine
	last   *tunnel.Config
	closed bool
}

// New makes a device that does nothing until the first Apply.
func New(o Options) *Device {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Device{opts: o, net: &network{}}
}

// Apply makes the device equal to c; see [tunnel.Device]. A change of the own
// addresses or the mesh prefixes is [tunnel.ErrNeedsRestart]; a change of MTU
// holds for new connections. The MTU of a peer means nothing here: the stack has
// one for all.
func (d *Device) Apply(ctx context.Context, c tunnel.Config) error {
	c, err := wish.Take(c)
	if err != nil {
		return err
	}
	less := wish.Six(&c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return tunnel.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.wg == nil {
		if less {
			d.opts.Logger.Debug("overlay is IPv4 only", "reason", "the MTU is below 1280, the least that IPv6 may have (RFC 8200, section 5)")
		}
		return d.start(c)
	}
	if err := wish.Fits(d.last, c); err != nil {
		return err
	}
	if err := d.wg.Set(c); err != nil {
		return err
	}
	if c.MTU != d.last.MTU {
		if err := d.stack.setMTU(c.MTU); err != nil {
			return err
		}
	}
	if !slices.Equal(c.Routes, d.last.Routes) {
		d.stack.route(&c)
	}
	d.last = &c
	return nil
}

func (d *Device) start(c tunnel.Config) error {
	st, err := newTUN(&c, d.opts.Forward)
	if err != nil {
		return err
	}
	wg, err := engine.Start(st, c, d.opts.Logger)
	if err != nil {
		st.destroy()
		return err
	}
	d.stack, d.wg, d.last = st, wg, &c
	d.net.open(st.stack, c.Addr, c.Addr6)
	return nil
}

// Status reports the device; Interface is empty, the system has none.
func (d *Device) Status(context.Context) (tunnel.Status, error) {
	s := tunnel.Status{Backend: tunnel.Netstack}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return s, tunnel.ErrClosed
	}
	if d.wg == nil {
		return s, nil
	}
	var err error
	s.MTU, s.Offload = d.last.MTU, d.wg.Offload()
	s.ListenPort, s.Peers, err = d.wg.Status()
	return s, err
}

// Network dials and listens on the stack.
func (d *Device) Network() tunnel.Network { return d.net }

// Close ends the device, the stack and all connections on it. A second call
// does nothing.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.net.close()
	if d.wg == nil {
		return nil
	}
	d.stack.stack.Close() // connections are reset, and the resets may still leave
	d.wg.Close()
	d.stack.destroy()
	return nil
}
