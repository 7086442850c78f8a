// Package burst turns what a TUN hands over with IFF_VNET_HDR into packets,
// and packets into what it takes: bursts of up to 64 kB that pass the kernel's
// network stack as one.
//
// It promises that a burst is cut exactly as the kernel would have cut it, that
// packets are joined only if cutting gives them back byte for byte (but for
// the identification of IPv4, as in the kernel's own GRO), and that a packet
// whose checksum is wrong stays alone and wrong: the far end notices.
//
// The form is struct virtio_net_hdr (virtio 1.2, section 5.1.6). The package
// is pure, allocates nothing in use, imports the standard library, and takes
// any bytes without harm.
package burst
