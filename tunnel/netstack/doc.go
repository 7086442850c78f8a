// Package netstack is the overlay without any privilege: wireguard-go under a
// TCP/IP stack of our own (gVisor), inside the process.
//
// It promises the same [tunnel.Device] and [tunnel.Network] as a TUN. The
// agent dials and listens through the stack; [Forwarder] hands overlay ports
// to local services and [Connect] lets local programs reach the overlay by
// HTTP CONNECT, so that a container without NET_ADMIN is a full member. With
// Options.Forward the stack relays packets between members, as a gateway does.
//
// It owns outside the process one UDP socket, and the loopback sockets of the
// two helpers. It imports the tunnel dictionary, its internal tools,
// wireguard-go and gVisor.
//
// It never creates an interface, a route or a filter rule, and never forwards
// between the overlay and the underlay: what is not listened on is refused.
package netstack
