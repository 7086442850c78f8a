//go:build !linux

package kernel

import (
	"fmt"
	"runtime"

	"drawbridge/tunnel"
)

// Available refuses: the kernel's WireGuard is Linux's.
func Available() error {
	return fmt.Errorf("%w: the kernel backend is not made for %s; choose the netstack backend", tunnel.ErrNoPrivilege, runtime.GOOS)
}

func forget() error { return nil }

func privilege(err error) error { return err }

func portError(_ uint16, err error) error { return err }

func (d *Device) configure(tunnel.Config) error { return Available() }

func (d *Device) report(*tunnel.Status) error { return Available() }
