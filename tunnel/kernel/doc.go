// Package kernel is the overlay by the WireGuard of the Linux kernel: packets
// never enter this process.
//
// It promises the same [tunnel.Device] as the other backends, reads what the
// interface has before it changes anything, and changes only the difference:
// sessions of unchanged peers live on, and an address that moves from one peer
// to another is never without an owner in between.
//
// It owns outside the process one interface of type wireguard (drawbridge0
// unless told otherwise) that carries the alias "drawbridge", with its UDP
// port, addresses, routes and kernel settings, and while it runs an abstract
// socket that says so. The interface outlives a killed process: the next start
// and [Cleanup] remove it by its mark. As a gateway (Options.Forward) it also
// switches forwarding on at the underlay's interfaces.
//
// It imports the tunnel dictionary, its internal tools, wgctrl and
// vishvananda/netlink; no binary such as `ip` or `wg` is run. Linux only,
// elsewhere it refuses.
//
// It never touches default routes, DNS, or packet filters (tunnel/nft does),
// and never takes over an interface that it did not make.
package kernel
