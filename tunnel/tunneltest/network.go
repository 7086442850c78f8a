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
	case "udp", "udp4":
		p := n.d.packet(0)
		p.remote = to
		return p, nil
	case "tcp", "tcp4":
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
			if back, _ := u.path(far, n.d.cfg.Addr); back == n.d {
				l := far.listeners[to.Port()]
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
	port, err := n.local(network, "tcp", at)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = n.d.port()
	}
	if n.d.listeners[port] != nil {
		return nil, fmt.Errorf("listen on tcp %v: %w", at, syscall.EADDRINUSE)
	}
	l := &listener{d: n.d, at: netip.AddrPortFrom(n.d.cfg.Addr, port)}
	n.d.listeners[port] = l
	n.d.u.cond.Broadcast()
	return l, nil
}

func (n network) ListenPacket(network string, at netip.AddrPort) (net.PacketConn, error) {
	n.d.u.mu.Lock()
	defer n.d.u.mu.Unlock()
	port, err := n.local(network, "udp", at)
	if err != nil {
		return nil, err
	}
	if n.d.packets[port] != nil {
		return nil, fmt.Errorf("listen on udp %v: %w", at, syscall.EADDRINUSE)
	}
	return n.d.packet(port), nil
}

func (n network) local(network, want string, at netip.AddrPort) (uint16, error) {
	if err := n.ready(); err != nil {
		return 0, fmt.Errorf("listen on %v: %w", at, err)
	}
	if network != want && network != want+"4" {
		return 0, fmt.Errorf("listen on %v: %w", at, net.UnknownNetworkError(network))
	}
	if a := at.Addr(); a.IsValid() && !a.IsUnspecified() && a != n.d.cfg.Addr {
		return 0, fmt.Errorf("listen on %v: the overlay address of this node is %v", at, n.d.cfg.Addr)
	}
	return at.Port(), nil
}

// port gives out the ports that nobody asked for by number (RFC 6335).
func (d *Device) port() uint16 {
	for {
		d.ephemeral = max(d.ephemeral+1, 49152)
		if d.listeners[d.ephemeral] == nil && d.packets[d.ephemeral] == nil {
			return d.ephemeral
		}
	}
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
