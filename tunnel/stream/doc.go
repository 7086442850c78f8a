// Package stream carries WireGuard's datagrams in TLS connections, for networks
// that let UDP not out.
//
// It promises that every backend can use it: a stream is a UDP socket on
// loopback ([tunnel.StreamNet]) whose address the device gets as its peer's
// endpoint. [Carrier] is the side that dials, [Acceptor] the gateway's. A
// datagram may be lost and is never waited for: what the TCP connection cannot
// take stays in the socket's own buffer, and what does not fit there is dropped
// by the kernel, newest first. A connection without a sign of life is given up
// after six seconds. UDP is tried again now and then with one small datagram
// that is kept back from the stream for a moment, so that a trial that fails
// loses nothing; when the peer answers, all datagrams go by UDP, and by the
// stream again as soon as UDP falls silent.
//
// What travels in the connection are frames: a length of 16 bits, big endian,
// and a datagram that looks like one of WireGuard's; length 0 is a sign of life.
// Anything else ends the connection.
//
// It owns outside the process its sockets. It imports the tunnel dictionary and
// the standard library only: certificates, and whom to believe, are in the TLS
// configurations and connections that it is given.
//
// It never carries anything but datagrams between a verified peer and the own
// device: a connection cannot be pointed elsewhere.
package stream
