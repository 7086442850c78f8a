package nstest

import (
	"context"
	"net"
	"net/netip"

	"drawbridge/tunnel"
)

// Device runs every call of a device on the thread of a namespace.
type Device struct {
	tunnel.Device
	In *Space
}

// Apply is the device's, in the namespace.
func (d Device) Apply(ctx context.Context, c tunnel.Config) (err error) {
	d.In.Do(func() { err = d.Device.Apply(ctx, c) })
	return err
}

// Status is the device's, in the namespace.
func (d Device) Status(ctx context.Context) (s tunnel.Status, err error) {
	d.In.Do(func() { s, err = d.Device.Status(ctx) })
	return s, err
}

// Close is the device's, in the namespace.
func (d Device) Close() (err error) {
	d.In.Do(func() { err = d.Device.Close() })
	return err
}

// Network is the device's, in the namespace.
func (d Device) Network() tunnel.Network { return network{d.Device.Network(), d.In} }

type network struct {
	tunnel.Network
	in *Space
}

func (n network) DialContext(ctx context.Context, network string, to netip.AddrPort) (c net.Conn, err error) {
	n.in.Do(func() { c, err = n.Network.DialContext(ctx, network, to) })
	return c, err
}

func (n network) Listen(network string, at netip.AddrPort) (l net.Listener, err error) {
	n.in.Do(func() { l, err = n.Network.Listen(network, at) })
	return l, err
}

func (n network) ListenPacket(network string, at netip.AddrPort) (c net.PacketConn, err error) {
	n.in.Do(func() { c, err = n.Network.ListenPacket(network, at) })
	return c, err
}
