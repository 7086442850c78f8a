package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"drawbridge/tunnel"
	"drawbridge/tunnel/conflict"
	"drawbridge/tunnel/kernel"
	"drawbridge/tunnel/netstack"
	"drawbridge/tunnel/nft"
	"drawbridge/tunnel/userspace"
)

// chosen is the backend in use, and why.
type chosen struct {
	device  tunnel.Device
	backend tunnel.Backend
	iface   string // "" on netstack
	reason  string
}

// backends are what auto tries, the best first.
var backends = []struct {
	name      tunnel.Backend
	available func() error
	works     string
	missing   string
}{
	{tunnel.Kernel, kernel.Available, "the kernel's WireGuard works here", "not the kernel"},
	{tunnel.Userspace, userspace.Available, "TUN devices work here", "no TUN device"},
	{tunnel.Netstack, func() error { return nil }, "needs no privilege", ""},
}

// choose picks the backend: what is configured, or the best that works here,
// with the reason against each better one.
func choose(want tunnel.Backend, iface string, mesh, mesh6 netip.Prefix, forward bool, log *slog.Logger) (chosen, error) {
	c := chosen{backend: want, iface: iface, reason: "configured"}
	if want == tunnel.Auto || want == "" {
		c.backend, c.reason = best()
	}
	for _, b := range backends {
		if b.name != c.backend || c.reason != "configured" {
			continue
		}
		if err := b.available(); err != nil {
			return c, fmt.Errorf("backend %s: %w", b.name, err)
		}
	}
	if c.backend != tunnel.Netstack {
		if err := userspace.Clash(iface, mesh, mesh6); err != nil {
			return c, fmt.Errorf("backend %s: %w, take that route away, or set backend: netstack", c.backend, err)
		}
	}
	switch c.backend {
	case tunnel.Kernel:
		c.device = kernel.New(kernel.Options{Interface: iface, Forward: forward, Logger: log.With("room", "kernel")})
	case tunnel.Userspace:
		c.device = userspace.New(userspace.Options{Interface: iface, Forward: forward, Logger: log.With("room", "userspace")})
	case tunnel.Netstack:
		sweep(iface, log)
		c.iface = ""
		c.device = netstack.New(netstack.Options{Forward: forward, Logger: log.With("room", "netstack")})
	default:
		return c, fmt.Errorf("backend %q: use auto, kernel, tun or netstack", want)
	}
	return c, nil
}

// best is the first backend that works, and why not those before it.
func best() (tunnel.Backend, string) {
	var why []string
	for _, b := range backends {
		err := b.available()
		if err == nil {
			return b.name, strings.Join(append(why, b.works), "; ")
		}
		why = append(why, fmt.Sprintf("%s: %v", b.missing, err))
	}
	panic("agent: the last backend needs nothing")
}

// sweep clears away what an agent with another backend left when it was killed:
// its interface holds the UDP port, and takes the overlay's addresses. Without
// the right to do so there is nothing of ours to clear.
func sweep(iface string, log *slog.Logger) {
	there, err := kernel.Left(iface)
	if err != nil || there == "" {
		return
	}
	if _, err := kernel.Cleanup(iface); err != nil {
		log.Warn("left-over of another backend stays", "reason", there, "err", err)
		return
	}
	log.Info("left-over of another backend removed", "reason", there)
	if err := nft.Cleanup(); err != nil {
		log.Warn("left-over packet filter stays", "err", err)
	}
}

// Conflict says whether this host's routes, and other overlays on it, leave room
// for the mesh prefix. It is nil where no interface can be made: a stack of our
// own has its own routes.
func Conflict(mesh netip.Prefix) error {
	if b, _ := best(); b == tunnel.Netstack {
		return nil
	}
	return conflict.Mesh(mesh, DefaultInterface)
}

// DefaultInterface is the system interface of the kernel and TUN backends.
const DefaultInterface = "drawbridge0"
