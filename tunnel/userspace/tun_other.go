//go:build !linux

package userspace

import (
	"fmt"
	"runtime"

	"golang.zx2c4.com/wireguard/tun"

	"drawbridge/tunnel"
)

// Available refuses: interfaces are set up on Linux only.
func Available() error {
	return fmt.Errorf("%w: the TUN backend is not made for %s; choose the netstack backend", tunnel.ErrNoPrivilege, runtime.GOOS)
}

func openTUN(string, int) (tun.Device, error) { return nil, Available() }
