package netstack_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"drawbridge/tunnel"
	"drawbridge/tunnel/netstack"
	"drawbridge/tunnel/tunneltest"
)

// onLoopback joins devices by UDP sockets of this host.
func onLoopback() tunneltest.Pair {
	return tunneltest.Pair{
		New:      func(_ *testing.T, i int) tunnel.Device { return netstack.New(netstack.Options{Forward: i == 0}) },
		Underlay: func(int) netip.Addr { return netip.MustParseAddr("127.0.0.1") },
		Port: func(t *testing.T, _ int) (uint16, func()) {
			c, err := net.ListenPacket("udp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			var once sync.Once
			return uint16(c.LocalAddr().(*net.UDPAddr).Port), func() { once.Do(func() { c.Close() }) }
		},
	}
}

func TestContract(t *testing.T) { tunneltest.Contract(t, onLoopback()) }
