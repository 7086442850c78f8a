package awsid

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"drawbridge/discovery/cloudtest"
	"drawbridge/discovery/internal/mototest"
)

// The whole way, as a host and a gateway go it.
func TestProveAndVerify(t *testing.T) {
	for _, tt := range []struct {
		name, region string
		key          cloudtest.AccessKey
		want         Caller
		instance     string
	}{
		{"role", "us-east-1", roleKey, Caller{"111122223333", roleKey.ARN, "aws", "gateway", instance}, instance},
		{"user", "us-east-1", userKey, Caller{"111122223333", userKey.ARN, "aws", "", ""}, ""},
		{
			"china", "cn-northwest-1",
			cloudtest.AccessKey{ID: "AKIACHINA00000000001", Secret: "x", ARN: "arn:aws-cn:sts::444455556666:assumed-role/r/person"},
			Caller{"444455556666", "arn:aws-cn:sts::444455556666:assumed-role/r/person", "aws-cn", "r", "person"},
			"",
		},
		{
			"govcloud", "us-gov-west-1",
			cloudtest.AccessKey{ID: "AKIAGOV0000000000001", Secret: "x", ARN: "arn:aws-us-gov:sts::444455556666:assumed-role/r/i-01234567"},
			Caller{"444455556666", "arn:aws-us-gov:sts::444455556666:assumed-role/r/i-01234567", "aws-us-gov", "r", "i-01234567"},
			"i-01234567",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud, url := on(t, cloudtest.Options{Region: tt.region})
			cloud.AddAccessKey(tt.key)
			p, err := Prove(t.Context(), ProveOptions{Region: tt.region, Credentials: static(tt.key)}, challenge)
			if err != nil {
				t.Fatal(err)
			}
			b, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if p, err = ParseProof(b); err != nil {
				t.Fatal(err)
			}
			got, err := verify(t, url, p, challenge)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Instance() != tt.instance {
				t.Errorf("instance %q", got.Instance())
			}
			if calls := cloud.Calls(); len(calls) != 1 || calls[0].Service != "sts" {
				t.Errorf("%+v", calls)
			}
		})
	}
}

// What STS refuses, and in whose words.
func TestSTSSaysNo(t *testing.T) {
	expired := roleKey
	expired.Expires = time.Now().Add(-time.Hour)
	for _, tt := range []struct {
		name  string
		now   *cloudtest.AccessKey // what AWS holds of the key; nil: nothing
		fault *cloudtest.Fault
		want  error
		words string
	}{
		{"unknown key", nil, nil, ErrNotAuthentic, "InvalidClientTokenId"},
		{"wrong secret", &cloudtest.AccessKey{Secret: "another", Token: roleKey.Token}, nil, ErrNotAuthentic, "SignatureDoesNotMatch"},
		{"wrong token", &cloudtest.AccessKey{Secret: roleKey.Secret, Token: "another"}, nil, ErrNotAuthentic, "InvalidClientTokenId"},
		{"expired token", &expired, nil, ErrNotAuthentic, "fresh"},
		{"region not enabled", &roleKey, &cloudtest.Fault{Code: "RegionDisabledException", HTTPStatus: 403}, ErrNotAuthentic, "AWS_REGION"},
		{"403 of a new kind", &roleKey, &cloudtest.Fault{Code: "Novelty", HTTPStatus: 403}, ErrNotAuthentic, "Novelty"},
		{"400 of a new kind", &roleKey, &cloudtest.Fault{Code: "Novelty"}, ErrUnreachable, "Novelty"},
		{"expired request", &roleKey, &cloudtest.Fault{Code: "RequestExpired"}, ErrClock, "NTP"},
		{"throttled", &roleKey, &cloudtest.Fault{Code: "Throttling"}, ErrUnreachable, "later"},
		{"throttled, 429", &roleKey, &cloudtest.Fault{Code: "AccessDenied", HTTPStatus: 429}, ErrUnreachable, "later"},
		{"503", &roleKey, &cloudtest.Fault{Code: "ServiceUnavailable", HTTPStatus: 503}, ErrUnreachable, "503"},
		{"denied by a broken server", &roleKey, &cloudtest.Fault{Code: "AccessDenied", HTTPStatus: 500}, ErrUnreachable, "500"},
		{"a box on the way", &roleKey, &cloudtest.Fault{Garbage: "<html>Forbidden</html>", HTTPStatus: 403}, ErrUnreachable, "no AWS error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud, url := on(t, cloudtest.Options{})
			p := prove(t, roleKey)
			cloud.RemoveAccessKey(roleKey.ID)
			if tt.now != nil {
				k := *tt.now
				k.ID, k.ARN = roleKey.ID, roleKey.ARN
				cloud.AddAccessKey(k)
			}
			if tt.fault != nil {
				tt.fault.Count = -1
				cloud.Inject(*tt.fault)
			}
			_, err := verify(t, url, p, challenge)
			fails(t, err, tt.want, tt.words)
			if n := len(cloud.Calls()); n != 1 {
				t.Errorf("asked %d times: an answer is final", n)
			}
		})
	}
}

// Host and gateway agree with each other and not with AWS.
func TestClockOfBothIsWrong(t *testing.T) {
	_, url := on(t, cloudtest.Options{})
	for _, away := range []time.Duration{-time.Hour, time.Hour} {
		now := func() time.Time { return time.Now().Add(away) }
		p, err := Prove(t.Context(), ProveOptions{Region: "us-east-1", Credentials: static(roleKey), Now: now}, challenge)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewVerifier(VerifierOptions{Endpoint: url, Now: now}).Verify(t.Context(), p, challenge)
		fails(t, err, ErrClock, "SignatureDoesNotMatch", "NTP")
	}
}

// jsonFront stands in front of moto, which always answers XML, and turns its
// answers into the JSON that AWS sends to those who accept it. It checks
// nothing: moto verifies the signature of what passes through unchanged.
func jsonFront(t *testing.T, moto string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		out, err := http.NewRequestWithContext(r.Context(), r.Method, moto+r.URL.RequestURI(), strings.NewReader(string(body)))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		out.Header, out.Host = r.Header.Clone(), r.Host
		res, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer res.Body.Close()
		var x struct {
			Account string `xml:"GetCallerIdentityResult>Account"`
			Arn     string `xml:"GetCallerIdentityResult>Arn"`
			UserID  string `xml:"GetCallerIdentityResult>UserId"`
			Code    string `xml:"Error>Code"`
			Code2   string `xml:"Errors>Error>Code"`
		}
		if err := xml.NewDecoder(res.Body).Decode(&x); err != nil {
			panic(http.ErrAbortHandler)
		}
		var v any = map[string]any{"Error": map[string]string{"Code": x.Code + x.Code2, "Message": "moto's", "Type": "Sender"}, "RequestId": "1"}
		if res.StatusCode == http.StatusOK {
			v = map[string]any{"GetCallerIdentityResponse": map[string]any{
				"GetCallerIdentityResult": map[string]string{"Account": x.Account, "Arn": x.Arn, "UserId": x.UserID},
				"ResponseMetadata":        map[string]string{"RequestId": "1"},
			}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(res.StatusCode)
		_ = json.NewEncoder(w).Encode(v) // the client may be gone
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Moto is a second opinion: botocore's own signer checks the signature over
// what the verifier sends.
func TestMotoVerifiesTheSignature(t *testing.T) {
	moto := mototest.Start(t)
	user, role := motoKeys(t, moto)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, moto+"/moto-api/reset-auth", strings.NewReader("0"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("turn on moto's signature check: %s", res.Status)
	}
	url := jsonFront(t, moto)
	got, err := verify(t, url, prove(t, user), challenge)
	if err != nil || got.ARN != "arn:aws:iam::123456789012:user/ann" || got.Account != "123456789012" {
		t.Errorf("user: %+v %v", got, err)
	}
	got, err = verify(t, url, prove(t, role), challenge)
	want := Caller{"123456789012", "arn:aws:sts::123456789012:assumed-role/gateway/" + instance, "aws", "gateway", instance}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("role: %v (-want +got):\n%s", err, diff)
	}

	thief := user
	thief.Secret = strings.Repeat("x", len(user.Secret))
	_, err = verify(t, url, prove(t, thief), challenge)
	fails(t, err, ErrNotAuthentic, "SignatureDoesNotMatch")
	nobody := user
	nobody.ID = "AKIANOBODY0000000001"
	_, err = verify(t, url, prove(t, nobody), challenge)
	fails(t, err, ErrNotAuthentic, "InvalidClientTokenId")
	// The challenge is exchanged after signing: the gateway's own check is
	// passed by it, the signature is not.
	p := prove(t, user)
	if p.Headers[headerChallenge], err = challengeValue(other); err != nil {
		t.Fatal(err)
	}
	_, err = verify(t, url, p, other)
	fails(t, err, ErrNotAuthentic, "SignatureDoesNotMatch")
}

// motoKeys makes a user and a session of a role, with their keys.
func motoKeys(t *testing.T, moto string) (user, role cloudtest.AccessKey) {
	t.Helper()
	iam := func(out any, kv ...string) { mototest.Call(t, moto, "iam", "2010-05-08", out, kv...) }
	var made struct{}
	iam(&made, "Action", "CreateUser", "UserName", "ann")
	var key struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	iam(&key, "Action", "CreateAccessKey", "UserName", "ann")
	iam(&made, "Action", "CreateRole", "RoleName", "gateway", "AssumeRolePolicyDocument",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}`)
	var session struct {
		ID     string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		Secret string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
		Token  string `xml:"AssumeRoleResult>Credentials>SessionToken"`
	}
	mototest.Call(t, moto, "sts", "2011-06-15", &session, "Action", "AssumeRole",
		"RoleArn", "arn:aws:iam::123456789012:role/gateway", "RoleSessionName", instance)
	user = cloudtest.AccessKey{ID: key.ID, Secret: key.Secret}
	role = cloudtest.AccessKey{ID: session.ID, Secret: session.Secret, Token: session.Token}
	if user.ID == "" || role.Token == "" {
		t.Fatal("moto made no keys")
	}
	return user, role
}

// An instance without any setting: keys and region come from its metadata.
func TestProveOnAnInstance(t *testing.T) {
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			fmt.Fprint(w, "imds-token")
		case "/latest/meta-data/iam/security-credentials/":
			fmt.Fprint(w, "gateway")
		case "/latest/meta-data/iam/security-credentials/gateway":
			fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":%q,"LastUpdated":%q}`,
				roleKey.ID, roleKey.Secret, roleKey.Token, soon, soon)
		case "/latest/dynamic/instance-identity/document":
			fmt.Fprint(w, `{"region":"us-east-1","instanceId":"`+instance+`"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(imds.Close)
	alone(t, "AWS_EC2_METADATA_DISABLED", "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.URL)
	_, url := on(t, cloudtest.Options{})
	p, err := Prove(t.Context(), ProveOptions{}, challenge)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verify(t, url, p, challenge); err != nil || got.Role != "gateway" || got.Instance() != instance {
		t.Errorf("%+v %v", got, err)
	}
}

func TestProveFromTheEnvironment(t *testing.T) {
	alone(t, "AWS_ACCESS_KEY_ID", userKey.ID, "AWS_SECRET_ACCESS_KEY", userKey.Secret, "AWS_REGION", "us-east-1")
	_, url := on(t, cloudtest.Options{})
	p, err := Prove(t.Context(), ProveOptions{}, challenge)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verify(t, url, p, challenge); err != nil || got.ARN != userKey.ARN {
		t.Errorf("%+v %v", got, err)
	}
}

func TestProveRefuses(t *testing.T) {
	noDisk := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("no disk") })
	expired := roleKey
	expired.Expires = time.Now().Add(-time.Second)
	for _, tt := range []struct {
		name      string
		env       []string
		opts      ProveOptions
		challenge []byte
		want      error // nil: any
		words     string
	}{
		{"no region", nil, ProveOptions{Credentials: static(userKey)}, challenge, nil, "AWS_REGION"},
		{"no credentials", nil, ProveOptions{Region: "us-east-1"}, challenge, ErrNoCredentials, "attach a role"},
		{"broken chain", nil, ProveOptions{Region: "us-east-1", Credentials: noDisk}, challenge, ErrNoCredentials, "no disk"},
		{"empty credentials", nil, ProveOptions{Region: "us-east-1", Credentials: static(cloudtest.AccessKey{})}, challenge, ErrNoCredentials, "empty"},
		{"region of the environment", []string{"AWS_REGION", "us-east-1.evil.com/"}, ProveOptions{Credentials: static(userKey)}, challenge, nil, "not a region"},
		{"secret region", nil, ProveOptions{Region: "us-iso-east-1", Credentials: static(userKey)}, challenge, nil, "not a region"},
		{"short challenge", nil, ProveOptions{Region: "us-east-1", Credentials: static(userKey)}, challenge[:15], nil, "15 bytes"},
		{"long challenge", nil, ProveOptions{Region: "us-east-1", Credentials: static(userKey)}, make([]byte, 257), nil, "257 bytes"},
		{"expired", nil, ProveOptions{Region: "us-east-1", Credentials: static(expired)}, challenge, ErrNoCredentials, "expired at 2"},
		{"key of another shape", nil, ProveOptions{Region: "us-east-1", Credentials: static(cloudtest.AccessKey{ID: "A,B", Secret: "x"})}, challenge, ErrMalformed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alone(t, tt.env...)
			p, err := Prove(t.Context(), tt.opts, tt.challenge)
			if err == nil || p.Headers != nil || !strings.Contains(err.Error(), tt.words) || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Errorf("%v %v", p, err)
			}
			silent(t, fmt.Sprint(err))
		})
	}
}
