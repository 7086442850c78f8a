// Package tunnel is the dictionary of the overlay: keys, the whole wish for a
// WireGuard device and for the packet filter around it, and the two contracts
// that every backend fulfils, [Device] and [Network].
//
// It promises that a wish is complete: whoever applies a [Config] or a
// [Filter] twice changes nothing the second time, and a restart needs no
// memory of the first.
//
// It owns nothing outside the process. The rooms beneath it do: see
// tunnel/kernel (the kernel's own WireGuard), tunnel/userspace (wireguard-go on a TUN), tunnel/netstack (wireguard-go on a
// network stack of our own, without privilege) and tunnel/nft (the packet
// filter), and tunnel/stream (the same datagrams over TLS, where UDP is
// blocked). tunnel/tunneltest holds the contract test that each backend passes.
//
// It imports standard value packages only, and never dials, logs or sleeps.
package tunnel
