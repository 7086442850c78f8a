package netstack_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"drawbridge/tunnel/netstack"
)

func TestConnect(t *testing.T) {
	a, b := inMemory(t)
	l, err := a.Network().Listen("tcp", at(1, 80))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	p := &netstack.Connect{Listen: "127.0.0.1:0", Mesh: mesh, Network: b.Network()}
	run(t, p.Run)
	<-p.Ready()

	tests := []struct {
		name, request string
		code          int
		want          string
	}{
		{"overlay address", "CONNECT 10.77.0.1:80 HTTP/1.1\r\nHost: 10.77.0.1:80\r\n\r\nearly ", 200, "early late"},
		{"closed port", "CONNECT 10.77.0.1:81 HTTP/1.1\r\nHost: 10.77.0.1:81\r\n\r\n", 502, ""},
		{"outside the mesh", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 403, ""},
		{"loopback", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x:22\r\n\r\n", 403, ""},
		{"name", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 403, ""},
		{"plain request", "GET http://10.77.0.1/ HTTP/1.1\r\nHost: 10.77.0.1\r\n\r\n", 405, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(c, tt.request)
			r := bufio.NewReader(c)
			resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
			if err != nil || resp.StatusCode != tt.code {
				t.Fatalf("answer %v, %v; want %d", resp, err, tt.code)
			}
			if tt.want == "" {
				return
			}
			fmt.Fprint(c, "late")
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if _, err := r.WriteTo(&got); err != nil || got.String() != tt.want {
				t.Errorf("got %q, %v; want %q", got.String(), err, tt.want)
			}
		})
	}
}

func TestConnectEndsItsTunnels(t *testing.T) {
	a, b := inMemory(t)
	l, err := a.Network().Listen("tcp", at(1, 80))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	p := &netstack.Connect{Listen: "127.0.0.1:0", Mesh: mesh, Network: b.Network()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Ready()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "CONNECT 10.77.0.1:80 HTTP/1.1\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("proxy does not end while a tunnel is open")
	}
}

func TestConnectRefusesToServeOthers(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "localhost:1", ""} {
		p := &netstack.Connect{Listen: listen, Mesh: netip.MustParsePrefix("10.0.0.0/8")}
		if err := p.Run(context.Background()); err == nil {
			t.Errorf("Run with Listen %q succeeded", listen)
		}
	}
}
