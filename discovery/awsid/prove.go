package awsid

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
)

// proveTimeout bounds the search for credentials and region: files, the
// environment and the instance's metadata service.
const proveTimeout = 15 * time.Second

// ProveOptions say with what to prove. The zero value takes everything from
// the SDK's default chain.
type ProveOptions struct {
	// Region whose STS will be asked; "" takes the environment's, the shared
	// configuration's or the instance's own. It must be enabled for the account.
	Region      string
	Credentials aws.CredentialsProvider // nil: the default chain
	Now         func() time.Time        // nil means time.Now
}

// Prove signs a GetCallerIdentity over the challenge with this host's AWS
// credentials and returns the signature. AWS is not called, except by the
// credential chain itself. It fails with ErrNoCredentials when there are none.
func Prove(ctx context.Context, o ProveOptions, challenge []byte) (Proof, error) {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	if o.Now == nil {
		o.Now = time.Now
	}
	value, err := challengeValue(challenge)
	if err != nil {
		return Proof{}, fmt.Errorf("prove aws identity: %w", err)
	}
	creds, region, err := credentials(ctx, o)
	if err != nil {
		return Proof{}, fmt.Errorf("prove aws identity: %w", err)
	}
	part, err := partitionOf(region)
	if err != nil {
		return Proof{}, fmt.Errorf("prove aws identity: %w; set AWS_REGION", err)
	}
	r, err := request(ctx, "https://"+part.host(region)+"/", part.host(region))
	if err != nil {
		return Proof{}, fmt.Errorf("prove aws identity: %w", err)
	}
	r.Header.Set(headerChallenge, value)
	sum := sha256.Sum256([]byte(stsBody))
	now := o.Now()
	if err := v4.NewSigner().SignHTTP(ctx, creds, r, hex.EncodeToString(sum[:]), stsService, region, now); err != nil {
		return Proof{}, fmt.Errorf("prove aws identity: sign: %w", err)
	}
	p := Proof{Region: region, Headers: map[string]string{}}
	for _, name := range proofHeaders {
		if v := r.Header.Get(name); v != "" {
			p.Headers[name] = v
		}
	}
	// What is given away is what a verifier would accept.
	if err := p.check(challenge, now); err != nil {
		return Proof{}, fmt.Errorf("prove aws identity: %w", err)
	}
	return p, nil
}

// request is the request without what differs from proof to proof.
func request(ctx context.Context, url, host string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(stsBody))
	if err != nil {
		return nil, err
	}
	r.Host = host
	r.Header.Set("Accept", accept)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "drawbridge") // never signed
	return r, nil
}

func credentials(ctx context.Context, o ProveOptions) (aws.Credentials, string, error) {
	if o.Credentials == nil || o.Region == "" {
		var opts []func(*config.LoadOptions) error
		if o.Region != "" {
			opts = append(opts, config.WithRegion(o.Region))
		} else {
			opts = append(opts, config.WithEC2IMDSRegion())
		}
		cfg, err := config.LoadDefaultConfig(ctx, opts...)
		if err != nil && o.Region == "" {
			return aws.Credentials{}, "", fmt.Errorf("no region, and the instance tells none; set AWS_REGION: %w", err)
		}
		if err != nil {
			return aws.Credentials{}, "", fmt.Errorf("load aws configuration: %w", err)
		}
		o.Region = cfg.Region
		if o.Credentials == nil {
			o.Credentials = cfg.Credentials
		}
	}
	creds, err := o.Credentials.Retrieve(ctx)
	switch {
	case err != nil:
		return aws.Credentials{}, "", fmt.Errorf("%w: attach a role to the instance, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", ErrNoCredentials, err)
	case !creds.HasKeys():
		return aws.Credentials{}, "", fmt.Errorf("%w: the credentials are empty; attach a role to the instance", ErrNoCredentials)
	case creds.CanExpire && !o.Now().Before(creds.Expires):
		return aws.Credentials{}, "", fmt.Errorf("%w: they expired at %s; look at the instance's role or clock", ErrNoCredentials, creds.Expires.UTC().Format(time.RFC3339))
	}
	return creds, o.Region, nil
}
