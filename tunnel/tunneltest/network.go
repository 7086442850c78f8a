package tunneltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"drawbridge/tunnel"
)

// backlog is how many connections wait to be accepted.
const backlog = 128

type network struct{ d *Device }

// ready says whether the device has a network; u.mu is held.
func (n network) ready() error {
	if n.d.closed {
		return tunnel.ErrClosed
	}
	if n.d.cfg == nil {
		return errors.New("overlay is not configured yet")
	}
	return nil
}

func (n network) DialContext(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	u := n.d.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := n.ready(); err != nil {
		return nil, fmt.Errorf("dial %v: %w", to, err)
	}
	switch network {
	case "udp", "udp4", "udp6":
		own := n.d.own(to.Addr())
		if !own.IsValid() || !speaks(network, to.Addr()) {
			return nil, fmt.Errorf("dial %v: %w", to, net.UnknownNetworkError(network))
		}
		p := n.d.packet(netip.AddrPortFrom(own, 0))
		p.remote = to
		return p, nil
	case "tcp", "tcp4", "tcp6":
		if speaks(network, to.Addr()) {
			break
		}
		fallthrough
	default:
		return nil, fmt.Errorf("dial %v: %w", to, net.UnknownNetworkError(network))
	}
	defer context.AfterFunc(ctx, u.wake)()
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("dial tcp %v: %w", to, err)
		}
		if n.d.closed {
			return nil, fmt.Errorf("dial tcp %v: %w", to, tunnel.ErrClosed)
		}
		if far, _ := u.path(n.d, to.Addr()); far != nil {
			if back, _ := u.path(far, n.d.own(to.Addr())); back == n.d {
				l := far.listeners[to]
				if l == nil {
					return nil, fmt.Errorf("dial tcp %v: %w", to, syscall.ECONNREFUSED)
				}
				if len(l.queue) < backlog {
					return n.d.connect(l, to), nil
				}
			}
		}
		u.cond.Wait()
	}
}

func (n network) Listen(network string, at netip.AddrPort) (net.Listener, error) {
	n.d.u.mu.Lock()
	defer n.d.u.mu.Unlock()
	at, err := n.local(network, "tcp", at)
	if err != nil {
		return nil, err
	}
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), n.d.port())
	}
	if n.d.listeners[at] != nil {
		return nil, fmt.Errorf("listen on tcp %v: %w", at, syscall.EADDRINUSE)
	}
	l := &listener{d: n.d, at: at}
	n.d.listeners[at] = l
	n.d.u.cond.Broadcast()
	return l, nil
}

func (n network) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	n.d.u.mu.Lock()
	defer n.d.u.mu.Unlock()
	at, err := n.local(network, "udp", at)
	if err != nil {
		return nil, err
	}
	if n.d.packets[at] != nil {
		return nil, fmt.Errorf("listen on udp %v: %w", at, syscall.EADDRINUSE)
	}
	return n.d.packet(at), nil
}

func (n network) local(network, want string, at netip.AddrPort) (netip.AddrPort, error) {
	if err := n.ready(); err != nil {
		return at, fmt.Errorf("listen on %v: %w", at, err)
	}
	a := at.Addr()
	if network != want && network != want+"4" && network != want+"6" || a.IsValid() && !a.IsUnspecified() && !speaks(network, a) {
		return at, fmt.Errorf("listen on %v: %w", at, net.UnknownNetworkError(network))
	}
	own := n.d.cfg.Addr
	if network == want+"6" || a.Is6() && !a.IsUnspecified() {
		own = n.d.cfg.Addr6
	}
	if !own.IsValid() || a.IsValid() && !a.IsUnspecified() && a != own {
		return at, fmt.Errorf("listen on %v: the overlay address of this node is %v", at, own)
	}
	return netip.AddrPortFrom(own, at.Port()), nil
}

// speaks reports whether a network such as "tcp4" has the address's family.
func speaks(network string, a netip.Addr) bool {
	switch network[len(network)-1] {
	case '4':
		return a.Is4()
	case '6':
		return a.Is6()
	}
	return true
}

// port gives out the ports that nobody asked for by number (RFC 6335).
func (d *Device) port() uint16 {
	for {
		d.ephemeral = max(d.ephemeral+1, 49152)
		if d.free(d.cfg.Addr) && d.free(d.cfg.Addr6) {
			return d.ephemeral
		}
	}
}

func (d *Device) free(a netip.Addr) bool {
	at := netip.AddrPortFrom(a, d.ephemeral)
	return d.listeners[at] == nil && d.packets[at] == nil
}

// wake makes everybody who waits look again.
func (u *Underlay) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cond.Broadcast()
}

// deadline is a moment after which waiting ends; guarded by u.mu.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(u *Underlay, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), u.wake)
	}
	u.cond.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) err() error {
	if !d.at.IsZero() && !time.Now().Before(d.at) {
		return os.ErrDeadlineExceeded
	}
	return nil
}
