package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
)

// Mode names the ground that a lab stands on.
type Mode string

// The grounds. Auto takes namespaces where the kernel allows them.
const (
	Auto       Mode = "auto"
	Namespaces Mode = "namespaces"
	Loopback   Mode = "loopback"
)

// ParseMode reads a mode as the command line gives it.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, Namespaces, Loopback:
		return m, nil
	}
	return "", fmt.Errorf("unknown mode %q: want auto, namespaces or loopback", s)
}

// ErrRefused says that the kernel does not let this user make what namespaces need.
// The text says what was refused and by whom.
var ErrRefused = errors.New("refused")

// ground is what a lab stands on: hosts, the wires between them, and faults.
type ground interface {
	// start runs cmd on a host.
	start(host string, cmd *exec.Cmd) error
	// addServer makes one more server in the machine room.
	addServer() (Node, error)
	// addStrangers makes strangersHost, and returns the prefix that its
	// packets may come from.
	addStrangers() (netip.Prefix, error)
	// fault drops percent of what passes between the site and the internet,
	// in both directions: 0 heals, 100 cuts.
	fault(site string, percent int) error
	// firewall lets nothing leave the machine room but TCP to port 443, or
	// everything again.
	firewall(on bool) error
	close() error
}

// stand makes the ground of a mode and its address plan.
func stand(ctx context.Context, mode Mode, servers int) (ground, Map, error) {
	if mode == Loopback {
		return newLoopback(ctx, servers)
	}
	return newNamespaces(servers)
}
