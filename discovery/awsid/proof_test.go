package awsid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProofRoundTrip(t *testing.T) {
	p := prove(t, roleKey)
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseProof(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Headers, got.Headers); diff != "" || got.Region != p.Region {
		t.Errorf("region %q (-want +got):\n%s", got.Region, diff)
	}
	if len(got.Headers) != 4 || got.Headers[headerToken] != roleKey.Token {
		t.Errorf("%d headers", len(got.Headers))
	}
}

func TestParseProofIsStrict(t *testing.T) {
	b, err := prove(t, roleKey).Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	edit := func(from, to string) string {
		s := strings.Replace(good, from, to, 1)
		if s == good {
			t.Fatalf("%q is not in the proof", from)
		}
		return s
	}
	for _, tt := range []struct{ name, in, words string }{
		{"nothing", "", "not one JSON value"},
		{"null", "null", "not a JSON object"},
		{"list", "[" + good + "]", "not a JSON object"},
		{"two", good + good, "not one JSON value"},
		{"something behind", good + "x", "not one JSON value"},
		{"not UTF-8", edit("us-east-1", "us-east-1\xff"), "not one JSON value"},
		{"too long", edit(roleKey.Token, strings.Repeat("t", MaxProof)), "the most is 8192"},
		{"more at the top", edit(`"region"`, `"url":"https://evil.com","region"`), `"url" is unknown`},
		{"method", edit(`"region"`, `"method":"GET","region"`), `"method" is unknown`},
		{"region twice", edit(`"region"`, `"region":"eu-west-1","region"`), "twice"},
		{"region in another case", edit(`"region"`, `"Region"`), "unknown"},
		{"region as a number", edit(`"us-east-1"`, `1`), "not a string"},
		{"header twice", edit(`"Authorization"`, `"X-Amz-Date":"x","Authorization"`), "twice"},
		{"header as a list", edit(`"`+roleKey.Token+`"`, `["x"]`), "not a string"},
		{"headers as a list", `{"region":"us-east-1","headers":[]}`, "not a JSON object"},
		{"foreign header", edit(`"Authorization"`, `"Host":"evil.com","Authorization"`), `"Host" is unknown`},
		{"header in another case", edit(`"Authorization"`, `"authorization"`), "unknown"},
		{"escaped line end", edit(roleKey.Token, `a\r\nHost: x`), "characters"},
		{"escaped NUL", edit(roleKey.Token, `a\u0000`), "characters"},
		{"empty token", edit(roleKey.Token, ""), "is empty"},
		{"no headers", `{"region":"us-east-1"}`, "is missing"},
		{"no region", edit(`"us-east-1"`, `""`), "not a region"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseProof([]byte(tt.in))
			fails(t, err, ErrMalformed, tt.words)
		})
	}
}

// A long session token, longer than AWS gives, fits or is refused on the host.
func TestEncodeIsBounded(t *testing.T) {
	for n, fits := range map[int]bool{4096: true, 7000: true, 8192: false} {
		k := roleKey
		k.Token = strings.Repeat("t", n)
		b, err := prove(t, k).Encode()
		if (err == nil) != fits || len(b) > MaxProof {
			t.Errorf("%d: %d bytes, %v", n, len(b), err)
		}
	}
	if _, err := (Proof{Region: "us-east-1"}).Encode(); !errors.Is(err, ErrMalformed) {
		t.Errorf("half a proof: %v", err)
	}
}

func TestProofHidesItself(t *testing.T) {
	p := prove(t, roleKey)
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(h)
		l.Info("proof", "p", p, "at", &p, "in", struct{ P Proof }{p}, "list", []Proof{p}, "map", map[string]*Proof{"p": &p})
	}
	b, err := json.Marshal(struct{ P *Proof }{&p})
	if err != nil {
		t.Fatal(err)
	}
	text := log.String() + string(b) + fmt.Sprint(p, &p, []Proof{p}, struct{ P Proof }{p}, fmt.Errorf("x: %v", p))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		text += fmt.Sprintf(verb, p) + fmt.Sprintf(verb, &p) + fmt.Sprintf(verb, struct{ P Proof }{p})
	}
	silent(t, text)
	for _, v := range p.Headers {
		if strings.Contains(text, v) || strings.Contains(text, fmt.Sprintf("%x", v)) {
			t.Errorf("tells %q", v)
		}
	}
	if !strings.Contains(text, "AWS proof for us-east-1 (hidden)") {
		t.Error(text)
	}
	if s := (Proof{Region: "x\ny"}).String(); s != "AWS proof (hidden)" {
		t.Errorf("%q", s)
	}
	if err := json.Unmarshal(b, &struct{ P *Proof }{}); err == nil {
		t.Error("a hidden proof was read back")
	}
}

func TestRegions(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "aws", "us-west-2": "aws", "eu-central-1": "aws", "ap-southeast-7": "aws", "ap-northeast-3": "aws", "ca-west-1": "aws",
		"me-central-1": "aws", "af-south-1": "aws", "il-central-1": "aws", "mx-central-1": "aws", "sa-east-1": "aws",
		"cn-north-1": "aws-cn", "cn-northwest-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "us-gov-east-1": "aws-us-gov",
		"us-iso-east-1": "", "eu-isoe-west-1": "", "eusc-de-east-1": "", "us-east-0": "", "us-east-100": "", "us-east-1 ": "", "us-east-1\n": "",
		"us-east-1.": "", ".us-east-1": "", "us-east-1/": "", "us_east_1": "", "us-evil-1": "", "fips-us-east-1": "", "us-east-1a": "", "-": "",
	} {
		p, err := partitionOf(region)
		if p.name != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", region, p.name, err)
		}
	}
}

func TestParseARN(t *testing.T) {
	for _, tt := range []struct{ arn, role, session, instance, words string }{
		{"arn:aws:sts::111122223333:assumed-role/gateway/i-0123456789abcdef0", "gateway", "i-0123456789abcdef0", "i-0123456789abcdef0", ""},
		{"arn:aws:sts::111122223333:assumed-role/gateway/i-01234567", "gateway", "i-01234567", "i-01234567", ""},
		{"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123/ann@example.com", "AWSReservedSSO_Admin_0123", "ann@example.com", "", ""},
		{"arn:aws-cn:sts::111122223333:assumed-role/g+=,.@-_/i-0123456789ABCDEF0", "g+=,.@-_", "i-0123456789ABCDEF0", "", ""},
		{"arn:aws:sts::111122223333:assumed-role/gateway/i-012345678", "gateway", "i-012345678", "", ""},
		{"arn:aws:iam::111122223333:user/ann", "", "", "", ""},
		{"arn:aws:iam::111122223333:user/division/sub/ann", "", "", "", ""},
		{"arn:aws:iam::111122223333:root", "", "", "", "root user of account 111122223333"},
		{"arn:aws:sts::111122223333:federated-user/bob", "", "", "", "federated"},
		{"arn:aws:iam::111122223333:role/gateway", "", "", "", "neither"},
		{"arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0123456789abcdef0", "", "", "", "does not name a role"},
		{"arn:aws:sts::111122223333:assumed-role/gateway", "", "", "", "does not name a role"},
		{"arn:aws:sts::111122223333:assumed-role/gateway/", "", "", "", "does not name a role"},
		{"arn:aws:sts::111122223333:assumed-role/path/gateway/i-01234567", "", "", "", "does not name a role"},
		{"arn:aws:sts::111122223333:assumed-role//i-01234567", "", "", "", "does not name a role"},
		{"arn:aws:sts::111122223333:assumed-role/gateway/a b", "", "", "", "does not name a role"},
		{"arn:aws:sts::111122223333:Assumed-Role/gateway/me", "", "", "", "neither"},
		{"arn:aws:iam::111122223333:assumed-role/gateway/me", "", "", "", "neither"},
		{"arn:aws:sts::111122223333:user/ann", "", "", "", "neither"},
		{"arn:aws:iam::111122223333:user/", "", "", "", "neither"},
		{"arn:aws:iam::111122223333:user//ann", "", "", "", "neither"},
		{"arn:aws:iam::11112222333:user/ann", "", "", "", "not an ARN"},
		{"arn:aws:iam::1111222233334:user/ann", "", "", "", "not an ARN"},
		{"arn:aws:iam:us-east-1:111122223333:user/ann", "", "", "", "not an ARN"},
		{"arn:aws-iso:iam::111122223333:user/ann", "", "", "", "not an ARN"},
		{"urn:aws:iam::111122223333:user/ann", "", "", "", "not an ARN"},
		{"arn:aws:iam::111122223333", "", "", "", "not an ARN"},
		{"", "", "", "", "not an ARN"},
		{"arn:aws:iam::111122223333:user/" + strings.Repeat("a/", 1100) + "b", "", "", "", "2232 characters"},
	} {
		c, err := parseARN(tt.arn)
		if tt.words != "" {
			fails(t, err, ErrIdentity, tt.words)
			continue
		}
		if err != nil || c.Role != tt.role || c.Session != tt.session || c.Account != "111122223333" || c.ARN != tt.arn || c.Instance() != tt.instance {
			t.Errorf("%s: %+v %v", tt.arn, c, err)
		}
	}
}
