package tunnel

import (
	"net/netip"
	"time"
)

// Stream is the wish to carry the WireGuard datagrams of one peer in a TLS
// connection, where UDP does not pass.
type Stream struct {
	Key Key            // of the peer
	To  netip.AddrPort // TCP, where the peer takes streams
	UDP netip.AddrPort // where the peer would be dialled by UDP: tried again with every handshake
}

// StreamStatus is what became of a [Stream].
type StreamStatus struct {
	Key   Key
	To    netip.AddrPort
	Local netip.AddrPort // on loopback: the endpoint to give the peer in the device
	Up    bool           // the TLS connection stands
	UDP   bool           // the last handshake went by UDP: the stream is not needed any more
	Since time.Time      // of Up, or of its end
	Err   string         // why it is not up; "" when it is
}
