package cloudtest

import (
	"context"
	"net"
	"net/http"
	"time"
)

// once makes each request over a connection of its own, so that nothing is
// ever sent twice: Go's transport repeats requests only on kept connections.
// It dials before the transport does, because the transport would leave a
// dialling goroutine behind when the request ends first.
type once struct {
	dial           Dial
	connectTimeout time.Duration // 0: the request's own
}

// RoundTrip implements http.RoundTripper.
func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if o.connectTimeout > 0 {
		c, cancel := context.WithTimeout(ctx, o.connectTimeout)
		defer cancel()
		ctx = c
	}
	conn, err := o.dial(ctx, "tcp", r.URL.Host)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{
		DisableKeepAlives:     true,
		DisableCompression:    true, // a balancer passes bodies as they are
		ResponseHeaderTimeout: idleTimeout,
		DialContext:           func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	res, err := tr.RoundTrip(r)
	if err != nil {
		_ = conn.Close() // the error that counts is the other one
	}
	return res, err
}
