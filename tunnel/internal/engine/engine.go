package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/bind"
	"drawbridge/tunnel/internal/queue"
	"drawbridge/tunnel/internal/uapi"
)

// Engine is a running WireGuard device. Methods may be called from several
// goroutines.
type Engine struct {
	dev  *device.Device
	bind *bind.Bind
	gate *gate

	closed sync.Once

	mu   sync.Mutex     // guards last
	last *tunnel.Config // the wish in force; nil: unknown
}

// Start runs WireGuard between t and a UDP socket according to c, which must
// be normalized and pass [uapi.Check]. It takes t over: when it fails, t is closed. Errors wrap
// [tunnel.ErrPortTaken] when another process holds the UDP port.
//
// The device comes up by itself, not on an EventUp of t; t should not send
// EventUp or EventDown.
func Start(t tun.Device, c tunnel.Config, log *slog.Logger) (*Engine, error) {
	transit := &queue.Transit{}
	g := newGate()
	e := &Engine{bind: bind.New(transit, g.shaken), gate: g}
	e.dev = device.NewDevice(&passage{Device: t, transit: transit, gate: g}, e.bind, logger(log))
	g.ask = e.sessions
	g.set(nil, &c)
	if err := e.dev.IpcSet(uapi.Set(nil, &c, nil)); err != nil {
		e.Close()
		return nil, fmt.Errorf("configure wireguard: %w", err)
	}
	if err := e.dev.Up(); err != nil {
		e.Close()
		return nil, portError(c.ListenPort, err)
	}
	e.last = &c
	return e, nil
}

// Set makes the device equal to c, which must be normalized, pass
// [uapi.Check], and not be changed afterwards. Sessions of unchanged peers live on.
func (e *Engine) Set(c tunnel.Config) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Dead() {
		return tunnel.ErrClosed
	}
	// What the device knows is asked for only if it matters, because it tells
	// of every peer.
	known := sync.OnceValues(func() (uint16, map[tunnel.Key]netip.AddrPort) {
		port, peers, err := e.Status()
		if err != nil {
			return 0, nil
		}
		at := make(map[tunnel.Key]netip.AddrPort, len(peers))
		for _, p := range peers {
			at[p.Key] = p.Endpoint
		}
		return port, at
	})
	learned := func(k tunnel.Key) netip.AddrPort {
		_, at := known()
		return at[k]
	}
	port := uint16(0) // where it listens, in case that the new port is taken
	if e.last != nil && e.last.ListenPort != c.ListenPort {
		port, _ = known()
	}
	text := uapi.Set(e.last, &c, learned)
	if text == "" {
		return nil
	}
	if err := e.dev.IpcSet(text); err != nil {
		return e.undo(c.ListenPort, port, err)
	}
	again := uapi.Again(e.last, &c)
	e.gate.set(e.last, &c)
	e.last = &c
	e.greet(again)
	return nil
}

// undo goes back to the old port when the new one is taken; that line is the
// first of a set, so nothing else has changed. Any other error leaves the
// device in a state not known, and the next Set replaces all of it.
func (e *Engine) undo(wish, old uint16, err error) error {
	if e.last == nil || wish == e.last.ListenPort {
		e.last = nil
		return fmt.Errorf("configure wireguard: %w", err)
	}
	if back := e.dev.IpcSet(fmt.Sprintf("listen_port=%d\n", old)); back != nil {
		e.last = nil
		err = errors.Join(err, back)
	}
	return portError(wish, err)
}

// greet starts a handshake with peers that were just added again. An error is
// no more than a lost packet: WireGuard's own timers try again.
func (e *Engine) greet(keys []tunnel.Key) {
	for _, k := range keys {
		if p := e.dev.LookupPeer(device.NoisePublicKey(k)); p != nil {
			_ = p.SendHandshakeInitiation(false)
		}
	}
}

// Status is the UDP port and the peers, sorted by key.
func (e *Engine) Status() (port uint16, peers []tunnel.PeerStatus, err error) {
	text, err := e.dev.IpcGet()
	if err != nil {
		return 0, nil, fmt.Errorf("ask wireguard: %w", err)
	}
	return uapi.Get(text)
}

// Offload says whether the UDP socket moves bursts; see [tunnel.Status].
func (e *Engine) Offload() string { return e.bind.Offload() }

// sessions tells when each peer last shook hands.
func (e *Engine) sessions() (map[tunnel.Key]time.Time, error) {
	_, peers, err := e.Status()
	at := make(map[tunnel.Key]time.Time, len(peers))
	for _, p := range peers {
		at[p.Key] = p.LastHandshake
	}
	return at, err
}

// Dead reports that the device closed itself, because its tun.Device ended.
func (e *Engine) Dead() bool {
	select {
	case <-e.dev.Wait():
		return true
	default:
		return false
	}
}

// Close ends the device and its tun.Device and waits for both. A second call
// does nothing.
func (e *Engine) Close() {
	e.dev.Close()
	<-e.dev.Wait()
	e.closed.Do(e.gate.close)
}

func portError(port uint16, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on UDP port %d: %w; stop the other process or configure another port", port, tunnel.ErrPortTaken)
	}
	return fmt.Errorf("listen on UDP port %d: %w", port, err)
}

// logger hands wireguard-go's lines to l at debug level. They name peers by
// the first characters of their public keys and carry no secrets.
func logger(l *slog.Logger) *device.Logger {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	line := func(level string) func(string, ...any) {
		return func(format string, args ...any) {
			if l.Enabled(context.Background(), slog.LevelDebug) {
				l.Debug("wireguard says", "level", level, "text", fmt.Sprintf(format, args...))
			}
		}
	}
	return &device.Logger{Verbosef: line("event"), Errorf: line("error")}
}
