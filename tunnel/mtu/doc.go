// Package mtu is the search for the largest packet that a path of the overlay
// carries (RFC 4821, RFC 8899), as a pure rule: what is known of one path and
// the time go in, the next size to try and the size in force come out.
//
// It promises: the size in force was confirmed by the other end, or is the
// base of 1280 bytes (less where the device or the path carries less). ICMP is
// never needed. A size that stops to arrive while small packets do is given up
// at once, for the base, and the search begins anew. Loss of everything says
// nothing of sizes.
//
// It owns nothing outside the process and imports only the tunnel dictionary.
// It never reads a clock and sends nothing: the prober does.
//
// # Which sizes are tried
//
// WireGuard fills every packet up to a multiple of 16 bytes, though not beyond
// the device's MTU, and adds 60 bytes over IPv4 and 80 over IPv6. So only
// multiples of 16 and the device's own MTU are worth trying: on a path of 1492
// bytes 1424 is the largest that passes, because 1425 to 1440 all become 1500.
package mtu
