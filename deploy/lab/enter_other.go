//go:build !linux

package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"syscall"
)

// Inside reports whether this process runs in the lab's own user namespace.
func Inside() bool { return false }

// ProbeArgs are the arguments of the child of [CheckNamespaces].
var ProbeArgs = []string{"lab", "probe-namespaces"}

// Enter is refused: namespaces are a thing of Linux.
func Enter(context.Context, []string, bool) (int, error) { return 1, refusedHere() }

// CheckNamespaces is refused: namespaces are a thing of Linux.
func CheckNamespaces(context.Context) error { return refusedHere() }

// ProbeInside is refused: namespaces are a thing of Linux.
func ProbeInside() error { return refusedHere() }

// SettleIn is refused: namespaces are a thing of Linux.
func SettleIn() error { return refusedHere() }

func newNamespaces(int) (ground, Map, error) { return nil, Map{}, refusedHere() }

func tieToParent(*exec.Cmd) {}

func refusedHere() error {
	return fmt.Errorf("%w: %s has no network namespaces", ErrRefused, runtime.GOOS)
}

func routeVia(netip.Prefix, netip.Addr) error { return refusedHere() }

func addressLink(string, netip.Prefix) error { return refusedHere() }

func newCable() (ground, error) { return nil, refusedHere() }

func newChain() (ground, error) { return nil, refusedHere() }

func forceReadBuffer(c *net.UDPConn, size int) error { return c.SetReadBuffer(size) }

func congestion(string) func(string, string, syscall.RawConn) error { return nil }
