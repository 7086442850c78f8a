package cloudtest

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// farm is a network of targets in memory: a handler answers, a nil handler is
// a black hole, an unknown address refuses.
type farm struct {
	mu    sync.Mutex // guards hosts
	hosts map[string]http.Handler
}

func newFarm() *farm { return &farm{hosts: map[string]http.Handler{}} }

func (f *farm) set(addr string, h http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts[addr] = h
}

func (f *farm) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	f.mu.Lock()
	h, known := f.hosts[addr]
	f.mu.Unlock()
	switch {
	case !known:
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	case h == nil:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	near, far := net.Pipe()
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(&oneConn{conn: far}) }() // ends with io.EOF
	return near, nil
}

// oneConn is a listener that has one connection.
type oneConn struct {
	once sync.Once
	conn net.Conn
}

func (l *oneConn) Accept() (net.Conn, error) {
	conn := net.Conn(nil)
	l.once.Do(func() { conn = l.conn })
	if conn == nil {
		return nil, io.EOF
	}
	return conn, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

func says(status int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

// answer is what a call of the API gave.
type answer struct {
	Status  int
	Code    string
	Message string
	Body    string
}

// ask calls an action of the API as a signed form.
func ask(t testing.TB, c *Cloud, svc, action string, kv ...string) answer {
	t.Helper()
	vals := url.Values{"Action": {action}, "Version": {services[svc].version}}
	for i := 0; i+1 < len(kv); i += 2 {
		vals.Set(kv[i], kv[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(vals.Encode()))
	sign(r, svc)
	return send(t, c, r)
}

func sign(r *http.Request, svc string) {
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Amz-Date", "20250101T000000Z")
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=KEY/20250101/%s/%s/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", DefaultRegion, svc))
}

func send(t testing.TB, c *Cloud, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	a := answer{Status: w.Code, Body: w.Body.String()}
	var e struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
		EC2Code string `xml:"Errors>Error>Code"`
		EC2Msg  string `xml:"Errors>Error>Message"`
	}
	if w.Code != http.StatusOK {
		if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil {
			t.Fatalf("parse error answer %q: %v", a.Body, err)
		}
		a.Code, a.Message = e.Code+e.EC2Code, e.Message+e.EC2Msg
	}
	return a
}

func elb(t testing.TB, c *Cloud, action string, kv ...string) answer {
	t.Helper()
	return ask(t, c, "elasticloadbalancing", action, kv...)
}

func seed(t testing.TB, c *Cloud, l Layout) Seeded {
	t.Helper()
	s, err := c.Seed(l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// weigh sends ModifyRule with weights (and no stickiness).
func weigh(t testing.TB, c *Cloud, rule string, weights ...any) answer {
	t.Helper()
	kv := []string{"RuleArn", rule, "Actions.member.1.Type", "forward"}
	for i := 0; i+1 < len(weights); i += 2 {
		at := fmt.Sprintf("Actions.member.1.ForwardConfig.TargetGroups.member.%d.", i/2+1)
		kv = append(kv, at+"TargetGroupArn", weights[i].(string), at+"Weight", fmt.Sprint(weights[i+1]))
	}
	return elb(t, c, "ModifyRule", kv...)
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// twoSides is an AWS side and an on-premises side, 70 to 30.
func twoSides() Layout {
	return Layout{
		Groups: []GroupLayout{
			{Name: "aws", Weight: 70, Targets: []netip.AddrPort{ap("10.0.1.10:8080")}, CheckPath: "/healthz"},
			{Name: "idc", Weight: 30, Targets: []netip.AddrPort{ap("172.20.0.1:8080"), ap("172.20.0.2:8080")}, CheckPath: "/healthz", DeregistrationWait: 30 * time.Second},
		},
		Tables: []string{"rtb-a", "rtb-b"},
		ENIs:   map[string]netip.Addr{"eni-1": netip.MustParseAddr("10.0.1.5"), "eni-2": netip.MustParseAddr("10.0.2.5")},
	}
}
