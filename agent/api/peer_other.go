//go:build !linux

package api

import (
	"net"
	"os"
)

// peerUID trusts the socket's file mode where the system has no SO_PEERCRED.
func peerUID(net.Conn) int { return os.Getuid() }
