package agent

import (
	"fmt"
	"log/slog"
	"net/netip"

	"drawbridge/tunnel"
	"drawbridge/tunnel/conflict"
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

// choose picks the backend: what is configured, or the best that works here.
func choose(want tunnel.Backend, iface string, mesh netip.Prefix, forward bool, log *slog.Logger) (chosen, error) {
	why := "configured"
	if want == tunnel.Auto || want == "" {
		if err := userspace.Available(); err != nil {
			want, why = tunnel.Netstack, fmt.Sprintf("no TUN device: %v", err)
		} else {
			want, why = tunnel.Userspace, "TUN devices work here"
		}
	}
	switch want {
	case tunnel.Userspace:
		if err := userspace.Available(); err != nil {
			return chosen{}, fmt.Errorf("backend tun: %w", err)
		}
		if err := userspace.Clash(mesh, iface); err != nil {
			return chosen{}, fmt.Errorf("backend tun: %w, take that route away, or set backend: netstack", err)
		}
		d := userspace.New(userspace.Options{Interface: iface, Forward: forward, Logger: log.With("room", "userspace")})
		return chosen{d, want, iface, why}, nil
	case tunnel.Netstack:
		d := netstack.New(netstack.Options{Forward: forward, Logger: log.With("room", "netstack")})
		return chosen{d, want, "", why}, nil
	default:
		return chosen{}, fmt.Errorf("backend %q: use auto, tun or netstack", want)
	}
}

// Conflict says whether this host's routes, and other overlays on it, leave room
// for the mesh prefix. It is nil where no TUN device can be made: a stack of our own has its own routes.
func Conflict(mesh netip.Prefix) error {
	if userspace.Available() != nil {
		return nil
	}
	return conflict.Mesh(mesh, DefaultInterface)
}

// DefaultInterface is the system interface of the TUN backend.
const DefaultInterface = "drawbridge0"

// Cleanup removes what a killed agent left behind: its interface with address
// and routes, and its packet filter. It needs no memory of that agent.
func Cleanup(iface string) error {
	if err := nft.Cleanup(); err != nil {
		return fmt.Errorf("remove packet filter: %w", err)
	}
	if err := userspace.Cleanup(iface); err != nil {
		return fmt.Errorf("remove interface %s: %w", iface, err)
	}
	return nil
}
