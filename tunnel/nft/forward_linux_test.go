package nft

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"drawbridge/tunnel"
	"drawbridge/tunnel/internal/link"
	"drawbridge/tunnel/internal/nstest"
)

const (
	patience = 10 * time.Second
	silence  = 300 * time.Millisecond
)

// listen serves TCP in a namespace: each client is told the address it is seen
// with.
func listen(t *testing.T, s *nstest.Space, at string) {
	t.Helper()
	var l net.Listener
	s.Must(t, func() (err error) { l, err = net.Listen("tcp", at); return err })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			io.WriteString(c, host)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// ask connects from a namespace and gives the answer and the segment size the
// sender was told, or the error.
func ask(s *nstest.Space, to string, limit time.Duration) (seen string, mss int, err error) {
	var c net.Conn
	s.Do(func() { c, err = net.DialTimeout("tcp", to, limit) })
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return "", 0, err
	}
	raw.Control(func(fd uintptr) { mss, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	if err != nil {
		return "", 0, err
	}
	c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	return string(b), mss, err
}

// TestForwarding puts a client in the underlay, a gateway, and a server behind
// it into namespaces. A cable named like the device stands for the tunnel.
func TestForwarding(t *testing.T) {
	needNFT(t)
	client, gw, srv := nstest.NewSpace(t), nstest.NewSpace(t), nstest.NewSpace(t)
	pre := netip.MustParsePrefix
	nstest.Link(t, client, "eth0", pre("198.51.100.2/24"), gw, "eth0", pre("198.51.100.1/24"))
	nstest.Link(t, gw, "drawbridge0", pre("10.77.0.1/16"), srv, "drawbridge0", pre("10.77.0.2/16"))
	client.Route(t, pre("10.77.0.0/16"), netip.MustParseAddr("198.51.100.1"), "eth0")
	srv.Route(t, pre("198.51.100.0/24"), netip.MustParseAddr("10.77.0.1"), "drawbridge0")
	gw.Must(t, func() error { _, err := link.Forward("drawbridge0"); return err })
	apply := func(s *nstest.Space, f tunnel.Filter) {
		t.Helper()
		s.Must(t, func() error { return New(Options{}).Apply(t.Context(), f) })
	}
	for _, port := range []int{8080, 9090, 7946} {
		listen(t, srv, fmt.Sprintf("10.77.0.2:%d", port))
	}
	listen(t, gw, "0.0.0.0:8080")
	listen(t, gw, "0.0.0.0:7946")
	listen(t, client, "198.51.100.2:80")

	if seen, mss, err := ask(client, "10.77.0.2:8080", patience); err != nil || seen != "198.51.100.2" || mss <= 1240 {
		t.Fatalf("without filters: seen as %q, mss %d, %v", seen, mss, err)
	}
	apply(gw, gateway())
	apply(srv, server())

	passes := func(why string, from *nstest.Space, to, as string) {
		t.Helper()
		if seen, _, err := ask(from, to, patience); err != nil || seen != as {
			t.Errorf("%s: seen as %q, %v; want %s", why, seen, err, as)
		}
	}
	drops := func(why string, from *nstest.Space, to string) {
		t.Helper()
		if seen, _, err := ask(from, to, silence); err == nil {
			t.Errorf("%s: passed, seen as %q", why, seen)
		}
	}
	passes("load balancer traffic has the gateway's address", client, "10.77.0.2:8080", "10.77.0.1")
	drops("a port that is no service", client, "10.77.0.2:9090")
	passes("control port from the mesh", gw, "10.77.0.2:7946", "10.77.0.1")
	drops("no service, from the mesh", gw, "10.77.0.2:9090")
	drops("from a member into the underlay", srv, "198.51.100.2:80")
	passes("the gateway's own service is a target too", client, "10.77.0.1:8080", "198.51.100.2")
	drops("the gateway's control port from the underlay", client, "10.77.0.1:7946")
	drops("a service of the gateway from a member that is no gateway", srv, "10.77.0.1:8080")
	passes("the underlay is none of our business", client, "198.51.100.1:7946", "198.51.100.2")

	_, mss, err := ask(client, "10.77.0.2:8080", patience)
	if err != nil || mss > 1240 || mss < 1200 {
		t.Errorf("segment size %d, %v; want the MTU less 40, and perhaps 12 for timestamps", mss, err)
	}
	other := server()
	other.Gateways = []netip.Addr{netip.MustParseAddr("10.77.0.9")}
	apply(srv, other)
	drops("a gateway that is none any more", client, "10.77.0.2:8080")
}
