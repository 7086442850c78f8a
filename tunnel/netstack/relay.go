package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A gateway passes on what is for other nodes without showing it to the stack,
// whose own forwarding reads a packet's header after it may have given its
// memory back (gvisor pkg/tcpip/network/ipv4, forwardPacketWithRoute), and
// which has nothing to decide here: WireGuard has checked where a packet comes
// from, and knows where it goes.

// passes reports whether a packet is for another node of the mesh.
func (t *netTUN) passes(b []byte) bool {
	var dst netip.Addr
	i := 0
	switch {
	case b[0]>>4 == 4 && len(b) >= header.IPv4MinimumSize:
		dst = netip.AddrFrom4([4]byte(b[16:20]))
	case b[0]>>4 == 6 && len(b) >= header.IPv6MinimumSize:
		dst, i = netip.AddrFrom16([16]byte(b[24:40])), 1
	default:
		return false
	}
	return t.relays[i].IsValid() && dst != t.self[i] && t.relays[i].Contains(dst)
}

// hop takes a hop off a packet's life (RFC 791, section 3.2; RFC 8200, section
// 3). It reports false for one that is over or malformed: such a packet is
// dropped without a word.
func hop(b []byte) bool {
	if b[0]>>4 == 6 {
		h := header.IPv6(b)
		if !h.IsValid(len(b)) || h.HopLimit() <= 1 {
			return false
		}
		h.SetHopLimit(h.HopLimit() - 1)
		return true
	}
	h := header.IPv4(b)
	if !h.IsValid(len(b)) || h.TTL() <= 1 {
		return false
	}
	h.SetTTL(h.TTL() - 1)
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
	return true
}

// passOn queues a packet for WireGuard; a full queue drops it, as any router's.
func (t *netTUN) passOn(p *stack.PacketBuffer) {
	var list stack.PacketBufferList
	list.PushBack(p)
	// The error of a closed queue: the device is going down.
	_, _ = t.link.WritePackets(list)
}
