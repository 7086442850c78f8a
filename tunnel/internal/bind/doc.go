// Package bind is the UDP side of wireguard-go for the backends that run it in
// this process: one IPv4 and one IPv6 socket behind [conn.Bind].
//
// It promises that a burst of datagrams costs one system call where the kernel
// can (UDP_SEGMENT and UDP_GRO, sendmmsg and recvmmsg) and says when it cannot
// ([Bind.Offload]); that a datagram is never cut in pieces on its way, so a
// path shows its true size (RFC 8899, section 3), and that one too large for
// the first link is lost, not an error; that a peer is answered from the
// address it called, until routes or addresses of this host change.
//
// Socket buffers stay at the system's default: a queue in front of a busy
// receiver is delay for everybody behind it. See tunnel/internal/DATAPLANE.md
// for what was measured.
//
// It owns two UDP sockets and one netlink socket. It imports
// golang.zx2c4.com/wireguard/conn, vishvananda/netlink and golang.org/x/sys;
// on other systems than Linux it is the module's own Bind.
//
// It never logs, sets no fwmark, and keeps nothing per peer.
package bind
