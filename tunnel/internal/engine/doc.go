// Package engine drives one wireguard-go device for the backends that put one
// on a TUN or on a network stack.
//
// It promises that a set wish holds whole or not at all: a UDP port held by
// another process leaves peers, keys and the old port as they were. A changed
// peer epoch starts a handshake at once.
//
// It owns the UDP socket and, from Start on, the tun.Device it was given. It
// imports the tunnel dictionary, tunnel/internal/uapi and wireguard-go, and
// never touches addresses, routes or interfaces.
package engine
