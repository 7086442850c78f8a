package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestMain lets the test program stand in for the lab's own subcommands.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == ProbeArgs[0] && os.Args[2] == ProbeArgs[1] {
		if err := ProbeInside(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inNamespaces runs the calling test again inside the lab's namespaces and
// reports whether this is that run.
func inNamespaces(t *testing.T) bool {
	t.Helper()
	if Inside() {
		if err := SettleIn(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if err := CheckNamespaces(t.Context()); err != nil {
		t.Skipf("no namespaces here: %v", err)
	}
	code, err := Enter(t.Context(), []string{"-test.run=^" + t.Name() + "$", "-test.v=" + fmt.Sprint(testing.Verbose())}, false)
	if err != nil || code != 0 {
		t.Fatalf("inside: exit code %d, %v", code, err)
	}
	return false
}

func TestNamespacesInternet(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	gr, m, err := newNamespaces(3)
	if err != nil {
		t.Fatal(err)
	}
	g := gr.(*namespaces)
	t.Cleanup(func() {
		if err := g.close(); err != nil {
			t.Error(err)
		}
	})
	serve := func(host string, addr netip.AddrPort) {
		t.Helper()
		var l net.Listener
		err := g.hosts[host].do(func() (err error) {
			l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s to %s", from, host)
		})}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	ask := func(host string, addr netip.AddrPort) (string, error) {
		return askFrom(t.Context(), g.hosts[host], addr)
	}
	serve("cloud", m.Public)
	gwA := netip.AddrPortFrom(m.Nodes[0].Endpoint.Addr(), 9000)
	serve("gw-a", gwA)
	serve("app-a", m.Apps[0].Listen)
	gpu := netip.AddrPortFrom(m.Nodes[2].Underlay, appPort)
	serve("gpu-1", gpu)

	reach := func(host string, addr netip.AddrPort, want string) {
		t.Helper()
		if got, err := ask(host, addr); err != nil || got != want {
			t.Errorf("%s asks %s: %q, %v; want %q", host, addr, got, err, want)
		}
	}
	refuse := func(host string, addr netip.AddrPort) {
		t.Helper()
		if got, err := ask(host, addr); err == nil {
			t.Errorf("%s asks %s: %q, want no answer", host, addr, got)
		}
	}
	reach("user", m.Public, "203.0.113.99 to cloud")
	reach("cloud", m.Apps[0].Addr, "172.31.1.5 to app-a")
	reach("gpu-1", gwA, "198.51.100.2 to gw-a") // through the NAT
	reach("gpu-2", gpu, "192.168.50.12 to gpu-1")

	// Nobody comes in from outside, not even with a route.
	lan := netip.MustParsePrefix("192.168.50.0/24")
	for host, via := range map[string]netip.Addr{"inet": uplinkRoom, "user": publicRouter, "gw-a": publicRouter} {
		if err := g.hosts[host].route(lan, via); err != nil {
			t.Fatal(err)
		}
	}
	refuse("user", gpu)
	refuse("gw-a", gpu)
	refuse("inet", gpu)

	fault := func(percent int) {
		t.Helper()
		if err := g.fault(SiteRoom, percent); err != nil {
			t.Fatal(err)
		}
	}
	fault(100)
	refuse("gpu-1", gwA)
	reach("user", m.Public, "203.0.113.99 to cloud")
	reach("gpu-2", gpu, "192.168.50.12 to gpu-1")
	fault(0)
	reach("gpu-1", gwA, "198.51.100.2 to gw-a")

	fault(30)
	if got := lostShare(t, g.hosts["gpu-1"], g.hosts["gw-a"], gwA, 2000, 5*time.Millisecond); got < 0.40 || got > 0.62 {
		t.Errorf("30 %% each way lost %.2f of the round trips, want about 0.51", got)
	}
	fault(0)
	if got := lostShare(t, g.hosts["gpu-1"], g.hosts["gw-a"], gwA, 200, 2*time.Second); got != 0 {
		t.Errorf("healed, yet lost %.2f", got)
	}
	if n, err := g.addServer(); err != nil || n.Name != "gpu-4" {
		t.Errorf("one more server: %+v, %v", n, err)
	}
	reach("gpu-4", gwA, "198.51.100.2 to gw-a")
	if err := g.fault(SiteCloud, 100); err == nil {
		t.Error("cut the cloud, want an error")
	}
}

// askFrom sends one HTTP request from a host, within a second.
func askFrom(ctx context.Context, h *host, addr netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var answer string
	err := h.do(func() error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp4", addr.String())
		if err != nil {
			return err
		}
		defer c.Close()
		deadline, _ := ctx.Deadline()
		_ = c.SetDeadline(deadline)
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		_, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if !ok {
			return errors.New("no answer")
		}
		answer = string(body)
		return nil
	})
	return answer, err
}

// lostShare sends n datagrams that are echoed and says how many never came
// back. Each is waited for before the next goes out, so that patience is only
// spent on the lost ones.
func lostShare(t *testing.T, from, to *host, addr netip.AddrPort, n int, patience time.Duration) float64 {
	t.Helper()
	var echo, c *net.UDPConn
	if err := to.do(func() (err error) {
		echo, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := from.do(func() (err error) {
		c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	defer func() { _ = echo.Close(); <-done }()
	got, buf := 0, make([]byte, 64)
	for range n {
		if _, err := c.Write([]byte("?")); err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(buf); err == nil {
			got++
		}
	}
	return 1 - float64(got)/float64(n)
}
