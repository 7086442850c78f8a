package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// rig is a relay with two gateway legs, running.
type rig struct {
	relay          *relay
	publicA, publB netip.AddrPort
	gwA, gwB       *net.UDPConn
	gwTCP          net.Listener
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ports, err := freePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{relay: &relay{line: newLine()}, publicA: ports[0], publB: ports[2]}
	for i := 0; i < 4; i += 2 {
		if err := r.relay.addLeg(ports[i], ports[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	r.gwA, r.gwB = listenUDP(t, ports[1]), listenUDP(t, ports[3])
	if r.gwTCP, err = net.Listen("tcp4", ports[1].String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.gwTCP.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.relay.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func listenUDP(t *testing.T, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func client(t *testing.T) *net.UDPConn {
	return listenUDP(t, netip.MustParseAddrPort("127.0.0.1:0"))
}

// receive waits for a datagram; "" when none comes within the patience.
func receive(c *net.UDPConn, patience time.Duration) (string, netip.AddrPort) {
	buf := make([]byte, 100)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		return "", netip.AddrPort{}
	}
	return string(buf[:n]), from
}

func TestRelayTranslatesServersOnly(t *testing.T) {
	r := newRig(t)
	one, two := client(t), client(t)
	send(t, one, "one", r.publicA)
	_, mapOne := expect(t, r.gwA, "one")
	send(t, two, "two", r.publicA)
	_, mapTwo := expect(t, r.gwA, "two")
	if mapOne == mapTwo || mapOne == addrOf(one) {
		t.Errorf("two clients came from %s and %s, want a mapping each", mapOne, mapTwo)
	}
	send(t, r.gwA, "to two", mapTwo)
	if _, from := expect(t, two, "to two"); from != r.publicA {
		t.Errorf("the answer came from %s, want the public address %s", from, r.publicA)
	}
	// Nobody but the gateway itself comes in through a mapping.
	send(t, r.gwB, "stranger", mapTwo)
	if got, _ := receive(two, 200*time.Millisecond); got != "" {
		t.Errorf("a stranger's %q came through the NAT", got)
	}
	// A gateway keeps its public address.
	send(t, r.gwB, "peer", r.publicA)
	if _, from := expect(t, r.gwA, "peer"); from != r.publB {
		t.Errorf("the other gateway came from %s, want %s", from, r.publB)
	}
}

func TestRelayCutSparesGateways(t *testing.T) {
	r := newRig(t)
	server := client(t)
	send(t, server, "before", r.publicA)
	_, mapped := expect(t, r.gwA, "before")

	r.relay.line.fault(100)
	send(t, server, "lost", r.publicA)
	send(t, r.gwA, "lost too", mapped)
	send(t, r.gwB, "peer", r.publicA)
	expect(t, r.gwA, "peer") // and not "lost", which was sent before
	if got, _ := receive(server, 200*time.Millisecond); got != "" {
		t.Errorf("%q crossed a line that was cut", got)
	}

	r.relay.line.fault(0)
	send(t, server, "after", r.publicA)
	if _, from := expect(t, r.gwA, "after"); from != mapped {
		t.Errorf("the mapping changed from %s to %s", mapped, from)
	}
}

func TestRelayLosesShare(t *testing.T) {
	l := newLine()
	l.fault(10)
	lost := 0
	for range 20000 {
		if l.drops() {
			lost++
		}
	}
	if lost < 1700 || lost > 2300 {
		t.Errorf("10 %% of 20000 lost %d", lost)
	}
}

func TestRelayCutStallsStreams(t *testing.T) {
	r := newRig(t)
	out, err := net.Dial("tcp4", r.publicA.String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := r.gwTCP.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	expectStream := func(c net.Conn, want string) {
		t.Helper()
		buf := make([]byte, len(want))
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
			t.Fatalf("read %q, %v; want %q", buf, err, want)
		}
	}
	write := func(c net.Conn, s string) {
		t.Helper()
		if _, err := io.WriteString(c, s); err != nil {
			t.Fatal(err)
		}
	}
	write(out, "hello")
	expectStream(in, "hello")
	r.relay.line.fault(100)
	write(out, "later")
	_ = in.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := in.Read(make([]byte, 9)); err == nil {
		t.Errorf("%d bytes crossed a line that was cut", n)
	}
	r.relay.line.fault(0)
	expectStream(in, "later")
	write(in, "answer")
	_ = in.Close()
	expectStream(out, "answer")
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want EOF", err)
	}
}

func send(t *testing.T, c *net.UDPConn, s string, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(s), to); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c *net.UDPConn, want string) (string, netip.AddrPort) {
	t.Helper()
	got, from := receive(c, 5*time.Second)
	if got != want {
		t.Fatalf("received %q, want %q", got, want)
	}
	return got, netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }
