package awsid

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"drawbridge/discovery/cloudtest"
)

const goodAuthorization = "AWS4-HMAC-SHA256 Credential=ASIAROLE000000000001/20260101/us-east-1/sts/aws4_request, " +
	"SignedHeaders=accept;content-length;content-type;host;x-amz-date;x-amz-security-token;x-drawbridge-challenge, " +
	"Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// What is read is small, plain and the same when written and read again; and
// whatever passes the check names only STS of a known region.
func FuzzParseProof(f *testing.F) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, k := range []cloudtest.AccessKey{roleKey, userKey} {
		p, err := Prove(context.Background(), ProveOptions{Region: "us-east-1", Credentials: static(k), Now: func() time.Time { return at }}, challenge)
		if err != nil {
			f.Fatal(err)
		}
		b, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(bytes.ToLower(b))
		f.Add(bytes.Replace(b, []byte("region"), []byte(`r\u0065gion`), 1))
	}
	f.Add([]byte(`{"region":"us-gov-west-1","headers":{"X-Amz-Date":"a","X-Amz-Date":"b"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		for name, v := range p.Headers {
			if !slices.Contains(proofHeaders, name) || strings.ContainsAny(v, "\r\n\x00\t") || v != strings.TrimSpace(v) {
				t.Fatalf("%q: %q", name, v)
			}
		}
		again, err := p.Encode()
		if err != nil { // HTML characters are written longer than they were read
			if len(b) < MaxProof/6 {
				t.Fatal(err)
			}
			return
		}
		if p2, err := ParseProof(again); err != nil || p2.Region != p.Region || len(p2.Headers) != len(p.Headers) {
			t.Fatalf("%v after a round trip: %s", err, again)
		}
		if err := p.check(challenge, at); err == nil {
			part, err := partitionOf(p.Region)
			if err != nil || !strings.Contains(p.Headers[headerAuthorization], "/"+p.Region+"/sts/aws4_request, ") || strings.ContainsAny(part.host(p.Region), "/:@#? ") {
				t.Fatalf("passed: %q", p.Headers[headerAuthorization])
			}
		}
	})
}

// There is one way to write what was read, and it is what was read.
func FuzzAuthorization(f *testing.F) {
	f.Add(goodAuthorization)
	f.Add(strings.ReplaceAll(goodAuthorization, ", ", ","))
	f.Add(strings.Replace(goodAuthorization, ";host", ";host;host", 1))
	f.Add(strings.Replace(goodAuthorization, "sts", "sts/evil", 1))
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAuthorization(s)
		if err != nil {
			return
		}
		if a.String() != s {
			t.Fatalf("%q was read as %q", s, a)
		}
		if !slices.IsSorted(a.signed) || len(slices.Compact(slices.Clone(a.signed))) != len(a.signed) || len(a.date) != 8 {
			t.Fatalf("%+v", a)
		}
	})
}

// An ARN that is believed is put together from its parts and nothing else.
func FuzzARN(f *testing.F) {
	f.Add(roleKey.ARN)
	f.Add(userKey.ARN)
	f.Add("arn:aws:iam::111122223333:root")
	f.Add("arn:aws-us-gov:sts::111122223333:assumed-role/a:b/c/d")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseARN(s)
		if err != nil {
			if !errors.Is(err, ErrIdentity) || c != (Caller{}) {
				t.Fatalf("%+v %v", c, err)
			}
			return
		}
		if strings.ContainsAny(s, " \r\n\x00\"") || c.ARN != s || len(c.Account) != 12 {
			t.Fatalf("%q is %+v", s, c)
		}
		if c.Role == "" {
			if c.Session != "" || !strings.HasPrefix(s, "arn:"+c.Partition+":iam::"+c.Account+":user/") {
				t.Fatalf("%q is %+v", s, c)
			}
			return
		}
		if s != "arn:"+c.Partition+":sts::"+c.Account+":assumed-role/"+c.Role+"/"+c.Session {
			t.Fatalf("%q is %+v", s, c)
		}
	})
}

// What AWS does not say is not read.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(believed))
	f.Add([]byte(strings.Replace(believed, "Arn", `\u0041rn`, 1)))
	f.Add([]byte(believed + believed))
	f.Add([]byte(`{"Error":{"Code":"AccessDenied"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err != nil {
			return
		}
		if len(a.account) != 12 || a.arn == "" || bytes.Count(b, []byte("{")) < 2 {
			t.Fatalf("%q is %+v", b, a)
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add(403, []byte(`{"Error":{"Code":"SignatureDoesNotMatch","Message":"Signature expired: now"}}`))
	f.Add(400, []byte(`<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>`))
	f.Add(200, []byte(``))
	f.Fuzz(func(t *testing.T, status int, b []byte) {
		err := refusal("https://x/", status, b)
		if errors.Is(err, ErrNotAuthentic) && (status < 400 || status > 499) {
			t.Fatalf("%d is no refusal: %v", status, err)
		}
		if len(err.Error()) > 400 {
			t.Fatalf("long words: %v", err)
		}
	})
}
