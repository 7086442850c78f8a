package netstack

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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

// TestRelayTakesAHop: a gateway passes on what is for others, a hop shorter,
// and drops what has no hop left, is malformed, or is for no node.
func TestRelayTakesAHop(t *testing.T) {
	tun, err := newTUN(netip.MustParseAddr("10.86.0.1"), netip.MustParsePrefix("10.86.0.0/16"), 1280, true)
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
	if other, err := newTUN(netip.MustParseAddr("10.86.0.1"), netip.MustParsePrefix("10.86.0.0/16"), 1280, false); err != nil || other.passes(packet("10.86.0.3", 9)) {
		t.Errorf("a server passes packets on (%v)", err)
	} else {
		other.destroy()
	}
}
