package cloudtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const identityBody = "Action=GetCallerIdentity&Version=2011-06-15"

var (
	userKey = AccessKey{ID: "AKIAUSER000000000001", Secret: "user secret", ARN: "arn:aws:iam::111122223333:user/ann", UserID: "AIDAANN"}
	roleKey = AccessKey{ID: "ASIAROLE000000000001", Secret: "role secret", Token: "role-token/+=", ARN: "arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0"}
)

// stsCall is a request signed by the SDK, and what is done to it afterwards.
type stsCall struct {
	key    AccessKey
	scope  string // "" sts
	region string // "" the default
	body   string // "" GetCallerIdentity
	accept string
	at     time.Time // zero: now
	before func(r *http.Request)
	after  func(r *http.Request)
}

// to sends the call over a real connection, as headers are told apart there.
func (s stsCall) to(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	if s.body == "" {
		s.body = identityBody
	}
	if s.scope == "" {
		s.scope = "sts"
	}
	if s.region == "" {
		s.region = DefaultRegion
	}
	if s.at.IsZero() {
		s.at = time.Now()
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Custom", "  two   words ")
	if s.accept != "" {
		r.Header.Set("Accept", s.accept)
	}
	if s.before != nil {
		s.before(r)
	}
	sum := sha256.Sum256([]byte(s.body))
	cred := aws.Credentials{AccessKeyID: s.key.ID, SecretAccessKey: s.key.Secret, SessionToken: s.key.Token}
	if err := v4.NewSigner().SignHTTP(t.Context(), cred, r, hex.EncodeToString(sum[:]), s.scope, s.region, s.at); err != nil {
		t.Fatal(err)
	}
	if s.after != nil {
		s.after(r)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func stsCloud(t *testing.T) (*Cloud, string) {
	t.Helper()
	c := New(Options{Throttle: true})
	c.AddAccessKey(userKey)
	c.AddAccessKey(roleKey)
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return c, srv.URL
}

func TestGetCallerIdentity(t *testing.T) {
	c, url := stsCloud(t)
	for _, tt := range []struct {
		name, want string
		call       stsCall
	}{
		{"user in XML", "<GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/ann</Arn><UserId>AIDAANN</UserId><Account>111122223333</Account></GetCallerIdentityResult>", stsCall{key: userKey}},
		{
			"role in JSON", `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Arn":"arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0","UserId":"AIDAFAKEASIAROLE000000000001","Account":"111122223333"},"ResponseMetadata":{"RequestId":"`,
			stsCall{key: roleKey, accept: "application/json"},
		},
		{"by its own name", "user/ann", stsCall{key: userKey, before: func(r *http.Request) { r.Host = "sts.us-east-1.amazonaws.com" }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body, header := tt.call.to(t, url)
			if status != http.StatusOK || !strings.Contains(body, tt.want) {
				t.Errorf("%d %s\nwant %s", status, body, tt.want)
			}
			kind := "text/xml"
			if tt.call.accept != "" {
				kind = tt.call.accept
			}
			if header.Get("Content-Type") != kind {
				t.Errorf("content type %q", header.Get("Content-Type"))
			}
		})
	}
	if calls := c.Calls(); len(calls) != 3 || calls[0].Service != "sts" || calls[0].Action != "GetCallerIdentity" || calls[0].Status != 200 {
		t.Errorf("%+v", calls)
	}
}

func TestSTSRefuses(t *testing.T) {
	c, url := stsCloud(t)
	expired := roleKey
	expired.ID, expired.Expires = "ASIAOLD0000000000001", time.Now().Add(-time.Second)
	c.AddAccessKey(expired)
	gone := userKey
	gone.ID = "AKIAGONE000000000001"
	c.AddAccessKey(gone)
	c.RemoveAccessKey(gone.ID)
	wrongSecret, wrongToken, noToken, extraToken := roleKey, roleKey, roleKey, userKey
	wrongSecret.Secret, wrongToken.Token, noToken.Token, extraToken.Token = "guessed", "guessed", "", "guessed"
	edit := func(name, from, to string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, strings.Replace(r.Header.Get(name), from, to, 1)) }
	}
	for _, tt := range []struct {
		name, code, message string
		status              int
		call                stsCall
	}{
		{"unknown key", "InvalidClientTokenId", "invalid", 403, stsCall{key: gone}},
		{"wrong secret", "SignatureDoesNotMatch", "does not match", 403, stsCall{key: wrongSecret}},
		{"wrong token", "InvalidClientTokenId", "invalid", 403, stsCall{key: wrongToken}},
		{"no token", "InvalidClientTokenId", "invalid", 403, stsCall{key: noToken}},
		{"token of a user", "InvalidClientTokenId", "invalid", 403, stsCall{key: extraToken}},
		{"expired token", "ExpiredToken", "expired", 403, stsCall{key: expired}},
		{"old date", "SignatureDoesNotMatch", "Signature expired: 2", 403, stsCall{key: userKey, at: time.Now().Add(-6 * time.Minute)}},
		{"future date", "SignatureDoesNotMatch", "Signature not yet current: 2", 403, stsCall{key: userKey, at: time.Now().Add(6 * time.Minute)}},
		{"another service", "SignatureDoesNotMatch", "correct service: 'sts'", 403, stsCall{key: userKey, scope: "ec2", before: func(r *http.Request) { r.Host = "sts.us-east-1.amazonaws.com" }}},
		{"another region", "SignatureDoesNotMatch", "valid region", 403, stsCall{key: userKey, region: "eu-west-1"}},
		{"host of another region", "SignatureDoesNotMatch", "correct service", 403, stsCall{key: userKey, before: func(r *http.Request) { r.Host = "sts.eu-west-1.amazonaws.com" }}},
		{"host of another service", "SignatureDoesNotMatch", "correct service", 403, stsCall{key: userKey, before: func(r *http.Request) { r.Host = "ec2.us-east-1.amazonaws.com" }}},
		{"host not signed for", "SignatureDoesNotMatch", "host:sts.us-east-1.amazonaws.com", 403, stsCall{key: userKey, after: func(r *http.Request) { r.Host = "sts.us-east-1.amazonaws.com" }}},
		{"signed header changed", "SignatureDoesNotMatch", "x-custom:three words here", 403, stsCall{key: userKey, after: edit("X-Custom", "two   words", "three words here")}},
		{"signed header doubled", "SignatureDoesNotMatch", "x-custom:two words,more", 403, stsCall{key: userKey, after: func(r *http.Request) { r.Header.Add("X-Custom", "more") }}},
		{"amz header not signed", "SignatureDoesNotMatch", "'x-amz-new' must be", 403, stsCall{key: userKey, after: func(r *http.Request) { r.Header.Set("X-Amz-New", "1") }}},
		{"doubled name", "IncompleteSignature", "sorted", 400, stsCall{key: userKey, after: edit("Authorization", ";host;", ";host;host;")}},
		{"unsorted names", "IncompleteSignature", "sorted", 400, stsCall{key: userKey, after: edit("Authorization", ";x-amz-date;x-custom", ";x-custom;x-amz-date")}},
		{"two headers", "IncompleteSignature", "two Authorization", 400, stsCall{key: userKey, after: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }}},
		{"date is not one", "IncompleteSignature", "basic format", 400, stsCall{key: userKey, after: edit("X-Amz-Date", "T", "t")}},
		{"no signature", "IncompleteSignature", "Authorization wants", 400, stsCall{key: userKey, after: edit("Authorization", "Signature=", "Seal=")}},
		{"body changed", "SignatureDoesNotMatch", "", 403, stsCall{key: userKey, after: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(identityBody[:len(identityBody)-1] + "6"))
		}}},
		{"another action", "InvalidAction", "GetSessionToken", 400, stsCall{key: userKey, body: "Action=GetSessionToken&Version=2011-06-15"}},
		{"another version", "NoSuchVersion", "", 400, stsCall{key: userKey, body: "Action=GetCallerIdentity&Version=2016-11-15"}},
		{"not POST", "InvalidAction", "POST", 405, stsCall{key: userKey, after: func(r *http.Request) { r.Method = http.MethodPut }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.call.accept = "application/json"
			status, body, _ := tt.call.to(t, url)
			var e struct {
				Error     struct{ Code, Message, Type string }
				RequestID string `json:"RequestId"`
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if status != tt.status || e.Error.Code != tt.code || !strings.Contains(e.Error.Message, tt.message) || e.Error.Type != "Sender" || e.RequestID == "" {
				t.Errorf("%d %s\nwant %d %s", status, body, tt.status, tt.code)
			}
		})
	}
	if status, body, _ := (stsCall{key: gone}).to(t, url); status != 403 || !strings.Contains(body, "<Type>Sender</Type><Code>InvalidClientTokenId</Code>") {
		t.Errorf("in XML: %d %s", status, body)
	}
	c.Inject(Fault{Action: "GetCallerIdentity", Code: "ServiceUnavailable", HTTPStatus: 503})
	if status, body, _ := (stsCall{key: userKey, accept: "application/json"}).to(t, url); status != 503 || !strings.Contains(body, `"Type":"Receiver"`) {
		t.Errorf("fault: %d %s", status, body)
	}
}

// The other services do not take what is signed for STS, and the other way
// round.
func TestSTSIsApart(t *testing.T) {
	c := New(Options{})
	if got := ask(t, c, "sts", "GetCallerIdentity"); got.Code != "InvalidClientTokenId" {
		t.Errorf("unverified: %+v", got)
	}
	if got := ask(t, c, "ec2", "GetCallerIdentity", "Version", "2016-11-15"); got.Code != "InvalidAction" {
		t.Errorf("of EC2: %+v", got)
	}
}

// The example of the IAM user guide ("Create a signed AWS API request"): the
// canonical request, its hash and the signature are AWS's own.
func TestSignatureOfTheGuide(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "https://iam.amazonaws.com/?Version=2010-05-08&Action=ListUsers", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	canonical := canonicalRequest(r, []string{"content-type", "host", "x-amz-date"}, nil)
	if got := hexSum(canonical); got != "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59" {
		t.Errorf("canonical request %q has hash %s", canonical, got)
	}
	const scope = "20150830/us-east-1/iam/aws4_request"
	key := derivedKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", scope)
	toSign := "AWS4-HMAC-SHA256\n20150830T123600Z\n" + scope + "\n" + hexSum(canonical)
	if got := hex.EncodeToString(mac(key, toSign)); got != "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7" {
		t.Errorf("signature %s", got)
	}
}
