package tunneltest

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/wish"
)

var _ tunnel.Device = (*Device)(nil)

// Device is a device in memory; see [Underlay.Device].
type Device struct {
	u    *Underlay
	opts Options

	// The rest is guarded by u.mu.
	cfg       *tunnel.Config // nil before the first Apply
	key       tunnel.Key
	listen    netip.AddrPort // in the underlay
	peers     map[tunnel.Key]*peer
	closed    bool
	listeners map[netip.AddrPort]*listener
	packets   map[netip.AddrPort]*packetConn
	conns     map[*conn]bool
	ephemeral uint16
}

// peer is what a device knows of a peer.
type peer struct {
	wish      tunnel.Peer
	endpoint  netip.AddrPort
	handshake time.Time
	greet     bool // owes a handshake
	rx, tx    uint64
}

// Host is the device's address in the underlay.
func (d *Device) Host() netip.Addr { return d.opts.Host }

// own is the device's overlay address of the family of a; invalid if it has none.
func (d *Device) own(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		return d.cfg.Addr6
	}
	return d.cfg.Addr
}

func (d *Device) up() bool { return d.cfg != nil && !d.closed }

// owner is the peer that an overlay address belongs to, by longest prefix.
func (d *Device) owner(a netip.Addr) *peer {
	var best *peer
	bits := -1
	for _, p := range d.peers {
		for _, x := range p.wish.AllowedIPs {
			if x.Contains(a) && x.Bits() > bits {
				best, bits = p, x.Bits()
			}
		}
	}
	return best
}

// Apply makes the device equal to c; see [tunnel.Device].
func (d *Device) Apply(ctx context.Context, c tunnel.Config) error {
	c, err := wish.Take(c)
	if err != nil {
		return err
	}
	wish.Six(&c)
	if err := ctx.Err(); err != nil {
		return err
	}
	key, err := c.PrivateKey.Public()
	if err != nil {
		return err
	}
	d.u.mu.Lock()
	defer d.u.mu.Unlock()
	if d.closed {
		return tunnel.ErrClosed
	}
	if err := wish.Fits(d.cfg, c); err != nil {
		return err
	}
	d.u.renew()
	if err := d.bind(c.ListenPort); err != nil {
		return err
	}
	if d.cfg != nil && !d.cfg.PrivateKey.Equal(c.PrivateKey) {
		d.peers = map[tunnel.Key]*peer{} // sessions belong to the key
	}
	d.setPeers(c.Peers)
	d.cfg, d.key = &c, key
	d.u.settle()
	return nil
}

func (d *Device) bind(port uint16) error {
	at := netip.AddrPortFrom(d.opts.Host, port)
	switch {
	case d.cfg != nil && port == d.cfg.ListenPort:
		return nil
	case port == 0:
		at = d.u.freePort(d.opts.Host)
	case d.u.taken(at, d):
		return fmt.Errorf("listen on UDP port %d: %w", port, tunnel.ErrPortTaken)
	}
	d.listen = at
	return nil
}

func (d *Device) setPeers(wish []tunnel.Peer) {
	old := d.peers
	d.peers = make(map[tunnel.Key]*peer, len(wish))
	for _, w := range wish {
		o := old[w.Key]
		switch {
		case o == nil:
			o = &peer{endpoint: w.Endpoint}
		case o.wish.Epoch != w.Epoch:
			o = &peer{endpoint: o.endpoint, wish: o.wish, greet: true}
		}
		if w.Endpoint.IsValid() && w.Endpoint != o.wish.Endpoint {
			o.endpoint = w.Endpoint
		}
		o.wish = w
		d.peers[w.Key] = o
	}
}

// Status reports the device.
func (d *Device) Status(context.Context) (tunnel.Status, error) {
	d.u.mu.Lock()
	defer d.u.mu.Unlock()
	s := tunnel.Status{Backend: tunnel.Memory}
	if d.closed {
		return s, tunnel.ErrClosed
	}
	if d.cfg == nil {
		return s, nil
	}
	d.u.renew()
	s.ListenPort, s.MTU = d.listen.Port(), d.cfg.MTU
	for _, w := range d.cfg.Peers {
		p := d.peers[w.Key]
		s.Peers = append(s.Peers, tunnel.PeerStatus{Key: w.Key, Endpoint: p.endpoint, LastHandshake: p.handshake, RxBytes: p.rx, TxBytes: p.tx})
	}
	return s, nil
}

// Network dials and listens on the device's overlay address.
func (d *Device) Network() tunnel.Network { return network{d} }

// Close takes the device off the underlay and ends its connections.
func (d *Device) Close() error {
	d.u.mu.Lock()
	defer d.u.mu.Unlock()
	if d.closed {
		return nil
	}
	d.u.renew()
	d.closed = true
	for _, l := range d.listeners {
		l.closed = true
	}
	for _, p := range d.packets {
		p.closed = true
	}
	for c := range d.conns {
		c.closed = true
	}
	clear(d.listeners)
	clear(d.packets)
	clear(d.conns)
	d.u.settle()
	return nil
}
