package mtu

import "drawbridge/tunnel"

const (
	base = tunnel.DefaultMTU
	// least is what every IPv4 host takes (RFC 1122, section 3.3.2).
	least = 576
	// jumbo is the largest device MTU that is chosen by itself: 9001, an
	// interface of EC2, without WireGuard's 60 bytes over IPv4.
	jumbo = 8941
	// usual passes Ethernet over IPv4: 1500 less 60.
	usual = 1440

	overhead = 60 // IPv4 20, UDP 8, WireGuard 32
)

// sizes are those of the paths that the world has, without WireGuard's bytes
// and rounded down to what WireGuard's filling leaves: each with the largest
// over IPv6 and over IPv4.
var sizes = []int{
	least, 1008, 1104, 1152,
	1200, 1216, // 1280: the least of IPv6
	1232, 1248, 1264,
	base,       // for the rest of the mesh
	1312, 1328, // 1400: common in mobile networks
	1360, 1376, // 1450: VXLAN
	1392, // 1460: GRE, Google Cloud
	1408, // 1480, 1492 and 1500 over IPv6
	1424, // 1492: PPPoE
	usual,
	1952, 3936, // 2030 and 4000: some metro networks
	8416, 8432, // 8500: transit gateways of AWS
	8816, 8832, // 8896: Google Cloud's jumbo
	8912, 8928, // 9000
}

// next is the size to try: greater than good, less than bad (if that is set),
// at most limit; 0: there is none. First the base (RFC 8899, section 5.2), so
// that a path below it is known soon, then what passed before and what is
// likely, then the middle.
func next(good, bad, limit int, before ...int) int {
	open := func(s int) bool { return s > good && (bad == 0 || s < bad) && s <= limit }
	for _, s := range append(append([]int{min(base, limit)}, before...), limit, usual) {
		if s > 0 && open(s) {
			return s
		}
	}
	var left []int
	for _, s := range sizes {
		if open(s) {
			left = append(left, s)
		}
	}
	if len(left) == 0 {
		return 0
	}
	return left[len(left)/2]
}

// Device is the MTU for a device: configured, or by the largest underlay link
// (0: unknown). What is no tunnel of our own in user space has its packets cut
// on their way instead of lost, so nothing can be measured there, and a jumbo
// link is only used when configured.
func Device(configured, underlay int, b tunnel.Backend) int {
	switch {
	case configured > 0:
		return configured
	case b == tunnel.Netstack || b == tunnel.Memory || underlay == 0:
		return base // one MTU for all peers
	case b == tunnel.Kernel:
		underlay = min(underlay, usual+overhead)
	}
	return max(base, min(underlay-overhead, jumbo))
}
