package stream

import (
	"crypto/tls"
	"net"
)

// under is the TCP connection under TLS, and under whatever else lies between.
func under(c net.Conn) net.Conn {
	for {
		u, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = u.NetConn()
	}
}

// abort closes at once, with a reset: nothing waits for a peer that does not read.
func abort(c net.Conn) {
	if t, ok := under(c).(*net.TCPConn); ok {
		_ = t.SetLinger(0) // the close counts
		_ = t.Close()
	}
	if _, ok := c.(*tls.Conn); !ok {
		c.Close()
	}
}
