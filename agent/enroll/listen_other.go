//go:build !linux

package enroll

import "net"

// tuneListener does nothing: the means are Linux's.
func tuneListener(net.Listener) {}
