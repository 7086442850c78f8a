package netstack

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/engine"
	"drawbridge/tunnel/internal/uapi"
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

// Apply makes the device equal to c; see [tunnel.Device]. A change of Addr or
// Mesh is [tunnel.ErrNeedsRestart]; a change of MTU holds for new connections.
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
	if d.wg == nil {
		return d.start(c)
	}
	if c.Addr != d.last.Addr || c.Mesh != d.last.Mesh {
		return fmt.Errorf("overlay address %v in %v instead of %v in %v: %w",
			c.Addr, c.Mesh, d.last.Addr, d.last.Mesh, tunnel.ErrNeedsRestart)
	}
	if err := d.wg.Set(c); err != nil {
		return err
	}
	if c.MTU != d.last.MTU {
		if err := d.stack.setMTU(c.MTU); err != nil {
			return err
		}
	}
	d.last = &c
	return nil
}

func (d *Device) start(c tunnel.Config) error {
	st, err := newTUN(c.Addr, c.Mesh, c.MTU, d.opts.Forward)
	if err != nil {
		return err
	}
	wg, err := engine.Start(st, c, d.opts.Logger)
	if err != nil {
		st.destroy()
		return err
	}
	d.stack, d.wg, d.last = st, wg, &c
	d.net.open(st.stack, c.Addr)
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

// copyOf is a normalized copy of c that shares no slices with it, with the
// default MTU filled in.
func copyOf(c tunnel.Config) tunnel.Config {
	peers := make([]tunnel.Peer, len(c.Peers))
	copy(peers, c.Peers)
	for i := range peers {
		peers[i].AllowedIPs = append(peers[i].AllowedIPs[:0:0], peers[i].AllowedIPs...)
	}
	c.Peers = peers
	if c.MTU == 0 {
		c.MTU = tunnel.DefaultMTU
	}
	c.Normalize()
	return c
}
