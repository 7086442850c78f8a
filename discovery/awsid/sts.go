package awsid

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// Bounds of one exchange with STS. Its answers are below 1 KiB.
const (
	dialTimeout   = 3 * time.Second
	headerTimeout = 5 * time.Second
	maxHeader     = 16 << 10
	maxAnswer     = 64 << 10
	attempts      = 2
)

// transport opens a connection for each request: nothing of another request
// is on it, and Go never repeats a request on its own.
func transport() http.RoundTripper {
	return &http.Transport{
		Proxy:                  nil, // see the package comment
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableKeepAlives:      true,
		DisableCompression:     true,
	}
}

// ask puts the question to STS, a second time when the first could not be
// sent. It fails with ErrUnreachable, ErrNotAuthentic or ErrClock.
func (v *Verifier) ask(ctx context.Context, p Proof, host string) (ans answer, err error) {
	for range attempts {
		var sent bool
		if ans, sent, err = v.exchange(ctx, p, host); err == nil || sent || ctx.Err() != nil {
			break
		}
	}
	return ans, err
}

// exchange makes one request. sent says that STS may have seen it.
func (v *Verifier) exchange(ctx context.Context, p Proof, host string) (ans answer, sent bool, err error) {
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	where := "https://" + host + "/"
	if v.endpoint != nil {
		where = v.endpoint.String()
	}
	r, err := request(ctx, where, host)
	if err != nil {
		return answer{}, true, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	for _, name := range proofHeaders {
		if value, ok := p.Headers[name]; ok {
			r.Header[name] = []string{value}
		}
	}
	// Not http.Client: that would follow redirects, and keep cookies.
	res, err := v.opts.Transport.RoundTrip(r)
	if err != nil {
		return answer{}, wrote.Load(), fmt.Errorf("%w: ask %s: %w", ErrUnreachable, where, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, true, fmt.Errorf("%w: read the answer of %s: %w", ErrUnreachable, where, err)
	case len(body) > maxAnswer:
		return answer{}, true, fmt.Errorf("%w: %s answered more than %d bytes", ErrUnreachable, where, maxAnswer)
	case res.StatusCode != http.StatusOK:
		return answer{}, true, refusal(where, res.StatusCode, body)
	}
	if ans, err = parseAnswer(body); err != nil {
		return answer{}, true, fmt.Errorf("%w: the answer of %s: %w", ErrUnreachable, where, err)
	}
	return ans, true, nil
}
