package awsid

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// verifyTimeout bounds one Verify, both attempts together.
const verifyTimeout = 10 * time.Second

// VerifierOptions of a Verifier. The zero value asks AWS.
type VerifierOptions struct {
	// Endpoint is the URL to connect to instead of STS's public name: a private
	// endpoint, or a fake. The Host header and the signature stay those of the
	// public name. With http:// whoever sits on the way can be anybody: that is
	// for labs. An Endpoint that is no URL fails every Verify.
	Endpoint string
	// Transport makes the request; nil means one of its own, without proxy.
	Transport http.RoundTripper
	Now       func() time.Time // nil means time.Now
}

// Verifier checks proofs with STS. It is safe for concurrent use and keeps
// nothing between calls.
type Verifier struct {
	opts     VerifierOptions
	endpoint *url.URL // nil: STS itself
	broken   error    // Endpoint is no URL
}

// NewVerifier makes a verifier; it calls nothing yet.
func NewVerifier(o VerifierOptions) *Verifier {
	if o.Transport == nil {
		o.Transport = transport()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Verifier{opts: o}
	if o.Endpoint != "" {
		v.endpoint, v.broken = parseEndpoint(o.Endpoint)
	}
	return v
}

// Verify checks that p was made for the challenge and asks STS who made it. It
// takes at most 10 s. It fails with one of the package's errors, or with none
// of them when the challenge is not of MinChallenge to MaxChallenge bytes; only
// after ErrUnreachable is another try with the same credentials worth it.
func (v *Verifier) Verify(ctx context.Context, p Proof, challenge []byte) (Caller, error) {
	c, err := v.verify(ctx, p, challenge)
	if err != nil {
		return Caller{}, fmt.Errorf("verify aws proof: %w", err)
	}
	return c, nil
}

func (v *Verifier) verify(ctx context.Context, p Proof, challenge []byte) (Caller, error) {
	if v.broken != nil {
		return Caller{}, fmt.Errorf("%w: %w", ErrUnreachable, v.broken)
	}
	if err := p.check(challenge, v.opts.Now()); err != nil {
		return Caller{}, err
	}
	part, err := partitionOf(p.Region)
	if err != nil { // check has seen it already
		return Caller{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	ans, err := v.ask(ctx, p, part.host(p.Region))
	if err != nil {
		return Caller{}, err
	}
	c, err := parseARN(ans.arn)
	switch {
	case err != nil:
		return Caller{}, err
	case c.Account != ans.account:
		return Caller{}, fmt.Errorf("%w: it names account %.40q and the identity %q", ErrUnreachable, ans.account, c.ARN)
	case c.Partition != part.name:
		return Caller{}, fmt.Errorf("%w: STS of %s names the identity %q of another partition", ErrUnreachable, p.Region, c.ARN)
	}
	return c, nil
}

func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("the endpoint for STS is no URL: %w", err)
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("the endpoint for STS, %q, must be of the form https://host or https://host:port", u.Redacted())
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}, nil
}
