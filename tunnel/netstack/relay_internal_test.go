package netstack

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"drawbridge/tunnel"
)

// packet is an IPv4 packet without a payload worth reading.
func packet(dst string, ttl uint8) []byte {
	b := make([]byte, 28)
	h := header.IPv4(b)
	h.Encode(&header.IPv4Fields{
		TotalLength: 28, TTL: ttl, Protocol: 17,
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 86, 0, 2}), DstAddr: tcpip.AddrFrom4(netip.MustParseAddr(dst).As4()),
	})
	h.SetChecksum(^h.CalculateChecksum())
	return b
}

var relayed = &tunnel.Config{
	Addr: netip.MustParseAddr("10.86.0.1"), Mesh: netip.MustParsePrefix("10.86.0.0/16"),
	Addr6: netip.MustParseAddr("fd86::1"), Mesh6: netip.MustParsePrefix("fd86::/64"), MTU: 1280,
}

// packet6 is a UDP packet without payload.
func packet6(dst string, hops byte) []byte {
	b := make([]byte, 48)
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: 8, HopLimit: hops, TransportProtocol: 17,
		SrcAddr: tcpip.AddrFrom16(netip.MustParseAddr("fd86::2").As16()), DstAddr: tcpip.AddrFrom16(netip.MustParseAddr(dst).As16()),
	})
	return b
}

// TestRelayTakesAHop: a gateway passes on what is for others, a hop shorter,
// and drops what has no hop left, is malformed, or is for no node.
func TestRelayTakesAHop(t *testing.T) {
	tun, err := newTUN(relayed, true)
	if err != nil {
		t.Fatal(err)
	}
	defer tun.destroy()
	broken := packet("10.86.0.3", 9)
	broken[2], broken[3] = 0xff, 0xff // longer than it is
	in := [][]byte{packet("10.86.0.3", 1), packet("10.86.0.3", 0), broken, packet("192.0.2.1", 9), {0x45}, packet("10.86.0.3", 9)}
	if _, err := tun.Write(in, 0); err != nil {
		t.Fatal(err)
	}
	bufs, sizes := make([][]byte, 8), make([]int, 8)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	n, err := tun.Read(bufs, sizes, 16)
	if err != nil || n != 1 || sizes[0] != 28 {
		t.Fatalf("read %d packets of %v bytes, %v; want the one that lives", n, sizes[:n], err)
	}
	h := header.IPv4(bufs[0][16 : 16+28])
	if h.TTL() != 8 || !h.IsChecksumValid() {
		t.Errorf("time to live %d, checksum valid %v; want 8 and true", h.TTL(), h.IsChecksumValid())
	}
	long := packet6("fd86::3", 9)
	long[4] = 0xff
	in = [][]byte{packet6("fd86::3", 1), long, packet6("fd87::1", 9), {0x65}, {}, packet6("fd86::3", 9)}
	if _, err := tun.Write(in, 0); err != nil {
		t.Fatal(err)
	}
	n, err = tun.Read(bufs, sizes, 16)
	if err != nil || n != 1 || sizes[0] != 48 || header.IPv6(bufs[0][16:]).HopLimit() != 8 {
		t.Fatalf("read %d IPv6 packets of %v bytes, %v; want the one that lives", n, sizes[:n], err)
	}
	if other, err := newTUN(relayed, false); err != nil || other.passes(packet("10.86.0.3", 9)) {
		t.Errorf("a server passes packets on (%v)", err)
	} else {
		other.destroy()
	}
}
