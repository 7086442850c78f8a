package awsid

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"drawbridge/discovery/cloudtest"
)

var (
	challenge = bytes.Repeat([]byte{0xfb, 0xef, 7}, 11)
	other     = bytes.Repeat([]byte{1}, 32)
)

const instance = "i-0123456789abcdef0"

var (
	roleKey = cloudtest.AccessKey{
		ID: "ASIAROLE000000000001", Secret: "the-secret-of-the-role", Token: "the-session-token/of+the+role==",
		ARN: "arn:aws:sts::111122223333:assumed-role/gateway/" + instance,
	}
	userKey = cloudtest.AccessKey{ID: "AKIAUSER000000000001", Secret: "the-secret-of-the-user", ARN: "arn:aws:iam::111122223333:user/people/ann"}
)

func static(k cloudtest.AccessKey) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.Token, Expires: k.Expires, CanExpire: !k.Expires.IsZero()}, nil
	})
}

// alone keeps the environment's AWS settings out of a test.
func alone(t *testing.T, kv ...string) {
	t.Helper()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "",
		"AWS_ROLE_ARN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		t.Setenv(k, v)
	}
	for i := 0; i+1 < len(kv); i += 2 {
		t.Setenv(kv[i], kv[i+1])
	}
}

// prove makes an honest proof.
func prove(t *testing.T, k cloudtest.AccessKey) Proof {
	t.Helper()
	p, err := Prove(t.Context(), ProveOptions{Region: cloudtest.DefaultRegion, Credentials: static(k)}, challenge)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// forge signs whatever it is told to, with the role's good key: what the SDK
// would do with a request of the forger's own making.
func forge(t *testing.T, service, region, body string, at time.Time, change func(r *http.Request)) Proof {
	t.Helper()
	r, err := request(t.Context(), "https://sts."+region+".amazonaws.com/", "sts."+region+".amazonaws.com")
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(headerChallenge, base64.RawURLEncoding.EncodeToString(challenge))
	if change != nil {
		change(r)
	}
	cred, err := static(roleKey).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), cred, r, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
	p := Proof{Region: region, Headers: map[string]string{}}
	for name, v := range r.Header {
		if name == "X-Forwarded-Host" || slices.Contains(proofHeaders, name) {
			p.Headers[name] = v[0]
		}
	}
	return p
}

// on starts the strict fake with both keys.
func on(t *testing.T, o cloudtest.Options) (*cloudtest.Cloud, string) {
	t.Helper()
	c := cloudtest.New(o)
	c.AddAccessKey(roleKey)
	c.AddAccessKey(userKey)
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return c, srv.URL
}

func verify(t *testing.T, url string, p Proof, ch []byte) (Caller, error) {
	t.Helper()
	return NewVerifier(VerifierOptions{Endpoint: url}).Verify(t.Context(), p, ch)
}

var sentinels = []error{ErrMalformed, ErrChallenge, ErrClock, ErrNotAuthentic, ErrIdentity, ErrUnreachable}

// fails checks that err is exactly one of the sentinels, says the words, and
// tells no secret.
func fails(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("believed; want %v", want)
	}
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == want) { //nolint:errorlint // the table's own
			t.Errorf("%v\nis %v: %v; want %v", err, s, errors.Is(err, s), want)
		}
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
	silent(t, err.Error())
}

func silent(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{roleKey.Token, roleKey.Secret, userKey.Secret, "Signature="} {
		if strings.Contains(text, secret) {
			t.Errorf("tells %s: %s", secret, text)
		}
	}
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
