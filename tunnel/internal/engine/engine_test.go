package engine

import (
	"crypto/sha256"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/tun/tuntest"

	"drawbridge/tunnel"
)

// crowd is a wish with n peers.
func crowd(n int) tunnel.Config {
	key := sha256.Sum256([]byte("self"))
	c := tunnel.Config{PrivateKey: tunnel.PrivateKeyOf(&key), Addr: netip.MustParseAddr("10.1.0.1"), Mesh: netip.MustParsePrefix("10.1.0.0/16"), MTU: 1280}
	for i := range n {
		c.Peers = append(c.Peers, member(i))
	}
	c.Normalize()
	return c
}

func member(i int) tunnel.Peer {
	return tunnel.Peer{
		Key:        tunnel.Key(sha256.Sum256([]byte{byte(i), byte(i >> 8)})),
		AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte((i + 2) >> 8), byte(i + 2)}), 32)},
	}
}

func BenchmarkAddOne(b *testing.B) {
	with, without := crowd(1001), crowd(1000)
	e, err := Start(tuntest.NewChannelTUN().TUN(), with, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	for b.Loop() {
		if err := e.Set(without); err != nil {
			b.Fatal(err)
		}
		if err := e.Set(with); err != nil {
			b.Fatal(err)
		}
	}
}
