package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"drawbridge/discovery"
)

const (
	maxBody   = 64 << 10
	maxHeader = 64 << 10
)

// target is where the service listens on this host.
func target(s discovery.ServiceSpec) netip.AddrPort {
	if s.To.IsValid() {
		return s.To
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.Port)
}

// attempt checks once, within the timeout of the specification. nil passes.
func (c *Checker) attempt(ctx context.Context, s discovery.ServiceSpec) error {
	ctx, cancel := context.WithTimeout(ctx, s.Check.Timeout)
	defer cancel()
	do := c.tcp
	if s.Check.Kind == discovery.CheckHTTP {
		do = c.http
	}
	err := do(ctx, s)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v: %w", s.Check.Timeout, err)
	}
	return err
}

func (c *Checker) tcp(ctx context.Context, s discovery.ServiceSpec) error {
	conn, err := c.opts.Dial(ctx, "tcp", target(s).String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// http asks for the path and wants 200 to 399, redirects included: whoever
// redirects is alive, and where it points may be outside this host.
func (c *Checker) http(ctx context.Context, s discovery.ServiceSpec) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target(s).String()+s.Check.Path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "drawbridge-check")
	transport := &http.Transport{
		DialContext:            c.opts.Dial,
		DisableKeepAlives:      true, // every check must show that connecting works
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Errorf("status %d, want 200 to 399", res.StatusCode)
	}
	return nil
}

// dial is the default of Options.Dial.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}
