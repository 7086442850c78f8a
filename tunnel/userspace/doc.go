// Package userspace is the overlay on a TUN device: wireguard-go in this
// process, the host's own TCP/IP above it. Every program of the host can use
// the overlay.
//
// It promises that Apply finds or makes the interface and leaves exactly the
// wish on it, that a crash leaves nothing that the next start or [Cleanup]
// does not clear away, and that what is missing is said with the next step
// ([Available], [Clash]).
//
// It owns outside the process one interface (drawbridge0 unless told
// otherwise) with its address, its route of the mesh prefix and its kernel
// settings, and a UDP socket. As a gateway (Options.Forward) it also switches
// forwarding on at the underlay's interfaces.
//
// It imports the tunnel dictionary, its internal tools, wireguard-go and
// golang.org/x/sys; Linux only, elsewhere it refuses.
//
// It never touches default routes, DNS, or packet filters (tunnel/nft does),
// and never takes over an interface that is no TUN or that another process
// holds.
package userspace
