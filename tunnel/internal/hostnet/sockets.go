package hostnet

import "net"

// The types here are system sockets that say when they are closed.

type tcpConn struct {
	*net.TCPConn
	n *Network
}

func (c *tcpConn) Close() error {
	c.n.drop(c)
	return c.TCPConn.Close()
}

type udpConn struct {
	*net.UDPConn
	n *Network
}

func (c *udpConn) Close() error {
	c.n.drop(c)
	return c.UDPConn.Close()
}

type listener struct {
	*net.TCPListener
	n *Network
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	t := &tcpConn{c, l.n}
	return t, l.n.add(t)
}

func (l *listener) Close() error {
	l.n.drop(l)
	return l.TCPListener.Close()
}
