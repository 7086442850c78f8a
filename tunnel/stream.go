package tunnel

import (
	"net/netip"
	"time"
)

// StreamNet holds the addresses on loopback that streams have towards the
// device. An endpoint in it means something on this host only: it is never told
// to others and never remembered.
var StreamNet = netip.MustParsePrefix("127.86.0.0/16")

// Streamed reports whether an endpoint is that of a stream.
func Streamed(endpoint netip.AddrPort) bool { return StreamNet.Contains(endpoint.Addr().Unmap()) }

// Stream is the wish to carry the WireGuard datagrams of one peer in a TLS
// connection, where UDP does not pass.
type Stream struct {
	Key Key            // of the peer
	To  netip.AddrPort // TCP, where the peer takes streams
	UDP netip.AddrPort // where the peer would be dialled by UDP, which is tried again now and then
}

// StreamStatus is what became of a [Stream]; on a gateway, what is known of one
// that a peer opened. To is then where that came from, over TCP.
type StreamStatus struct {
	Key   Key
	To    netip.AddrPort
	Local netip.AddrPort // on loopback: the endpoint to give the peer in the device
	Up    bool           // the TLS connection stands
	UDP   bool           // datagrams go and come by UDP for a while, through Local still: the stream is hardly needed any more
	Since time.Time      // of Up, or of its end
	Err   string         // why it is not up; "" when it is, or nobody knows yet
}
